import json
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.scripted import Scripted, refusal

RESULTS: list[dict[str, Any]] = [
    {
        "name": "nginx",
        "description": "Official build of Nginx, and a long description that goes on.",
        "stars": 20_000,
        "official": True,
        "automated": False,
        "cached": True,
    },
    {"name": "a/b", "description": None, "stars": 0, "official": False, "automated": True, "cached": False},
]


def test_dockers_columns_and_cached(api: Scripted, run: Run) -> None:
    api["GET /search"] = {"results": RESULTS}
    done = run("search", "nginx")
    described = RESULTS[0]["description"]
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        f"NAME      DESCRIPTION{' ' * (len(described) - 11 + 3)}STARS     OFFICIAL   CACHED\n"
        f"nginx     {described}   20000     [OK]       [OK]\n"
        f"a/b       {' ' * (len(described) + 3)}0\n"
    )
    assert api.last.query == {"term": ["nginx"], "limit": ["25"]}


@pytest.mark.parametrize(
    ("words", "query"),
    [
        (["x", "--registry", "quay.io", "--limit", "3"], {"term": ["x"], "registry": ["quay.io"], "limit": ["3"]}),
        (["ghcr.io/me/x"], {"term": ["me/x"], "registry": ["ghcr.io"], "limit": ["25"]}),
        (["ghcr.io/me/x", "--local"], {"term": ["ghcr.io/me/x"], "local": ["true"], "limit": ["25"]}),
        (
            ["x", "-f", "stars=3", "-f", "is-official=true"],
            {"term": ["x"], "limit": ["25"], "filter": ["stars=3", "is-official=true"]},
        ),
    ],
)
def test_what_it_asks_for(api: Scripted, run: Run, words: list[str], query: dict[str, list[str]]) -> None:
    api["GET /search"] = {"results": []}
    done = run("search", *words)
    assert done.stdout == "NAME      DESCRIPTION   STARS     OFFICIAL   CACHED\n"
    assert api.last.query == query


def test_a_remark_goes_where_results_do_not(api: Scripted, run: Run) -> None:
    api["GET /search"] = {"results": RESULTS[:1], "remark": "this mirror is offline; only what is held here is listed"}
    done = run("search", "x", "--format", "{{.Name}}")
    assert (done.stdout, done.exit_code) == ("nginx\n", 0)
    assert done.stderr == "this mirror is offline; only what is held here is listed\n"


def test_forms(api: Scripted, run: Run) -> None:
    api["GET /search"] = {"results": RESULTS}
    assert (
        run("search", "x", "--format", "{{.Name}} {{.StarCount}} {{.IsOfficial}}").stdout
        == "nginx 20000 [OK]\na/b 0 \n"
    )
    assert json.loads(run("search", "x", "--format", "json").stdout) == RESULTS


def test_a_registry_without_a_search_says_so(api: Scripted, run: Run) -> None:
    api["GET /search"] = refusal(404, "ghcr.io offers no search", 4, "UNSUPPORTED")
    done = run("search", "ghcr.io/x")
    assert (done.exit_code, done.stdout, done.stderr) == (4, "", "mirror: ghcr.io offers no search\n")


@pytest.mark.parametrize("words", [[], ["x", "--limit", "101"], ["x", "-f", "colour=1"]])
def test_what_cannot_be_meant(api: Scripted, run: Run, words: list[str]) -> None:
    assert run("search", *words).exit_code == 2
    assert api.requests == []
