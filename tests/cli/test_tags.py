import json
import time
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.samples import DAY, digest, rfc3339
from tests.cli.scripted import Request, Scripted, refusal

TAGS: list[dict[str, Any]] = [
    {
        "name": "3.20",
        "digest": digest("d"),
        "platforms": [f"linux/{name}" for name in ("386", "amd64", "arm64", "ppc64le", "s390x")],
        "size": 3_623_807,
        "created": rfc3339(21 * DAY),
        "cached": True,
        "gone": False,
    },
    {"name": "3.19", "digest": None, "platforms": None, "size": None, "created": None, "cached": False, "gone": False},
    {"name": "old", "digest": digest("e"), "platforms": [], "size": 1, "created": None, "cached": True, "gone": True},
]


def answer(tags: list[dict[str, Any]]) -> dict[str, Any]:
    return {"repository": "docker.io/library/alpine", "tags": tags, "history": [], "next": None}


def test_columns(api: Scripted, run: Run) -> None:
    api["GET /tags"] = answer(TAGS)
    done = run("tags", "alpine")
    platforms = "linux/386, linux/amd64, linux/arm64, linux/ppc64le, linux/s390x"
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        f"TAG       DIGEST         PLATFORMS{' ' * (len(platforms) - 9 + 3)}SIZE      CREATED       CACHED\n"
        f"3.20      dddddddddddd   {platforms}   3.62MB    3 weeks ago   [OK]\n"
        f"3.19      -              -{' ' * (len(platforms) - 1 + 3)}-         -\n"
        f"old       eeeeeeeeeeee   -{' ' * (len(platforms) - 1 + 3)}1B        -             only here\n"
    )
    assert api.last.query == {"repository": ["alpine"]}


def test_what_it_asks_for_page_by_page(api: Scripted, run: Run) -> None:
    def page(request: Request) -> dict[str, Any]:
        return {**answer(TAGS[:2]), "next": "more" if "cursor" not in request.query else None}

    api["GET /tags"] = page
    assert run("tags", "alpine", "-q", "--match", "3.*", "--limit", "3").stdout == "3.20\n3.19\n3.20\n3.19\n"
    assert [request.query for request in api.requests] == [
        {"repository": ["alpine"], "match": ["3.*"], "limit": ["3"]},
        {"repository": ["alpine"], "match": ["3.*"], "limit": ["1"], "cursor": ["more"]},
    ]


def test_what_is_missing_is_said_once_beside_the_list(api: Scripted, run: Run) -> None:
    def page(request: Request) -> dict[str, Any]:
        more = "more" if "cursor" not in request.query else None
        return {**answer(TAGS[:1]), "next": more, "warning": "docker.io is \x1b[31mdown"}

    api["GET /tags"] = page
    done = run("tags", "alpine", "-q")
    assert (done.exit_code, done.stdout) == (0, "3.20\n3.20\n")
    assert done.stderr == "WARNING: docker.io is \\x1b[31mdown\n"


def test_history_of_tags(api: Scripted, run: Run) -> None:
    moves = [
        {"at": time.time() - 7200, "name": "3.20", "digest": digest("d"), "actor": "socket"},
        {"at": time.time() - 3 * DAY, "name": "3.20", "digest": None, "actor": None},
    ]
    api["GET /tags"] = {**answer([]), "history": moves}
    assert run("tags", "alpine", "--history").stdout == (
        "MOVED         TAG       DIGEST         BY\n"
        "2 hours ago   3.20      dddddddddddd   socket\n"
        "3 days ago    3.20      removed        -\n"
    )
    assert api.last.query == {"repository": ["alpine"], "history": ["true"]}
    assert json.loads(run("tags", "alpine", "--history", "--format", "json").stdout) == moves


def test_forms(api: Scripted, run: Run) -> None:
    api["GET /tags"] = answer(TAGS)
    assert run("tags", "a", "--format", "{{.Tag}} {{.Cached}}").stdout == "3.20 [OK]\n3.19 \nold only here\n"
    assert json.loads(run("tags", "a", "--format", "json").stdout) == TAGS
    assert digest("d") in run("tags", "a", "--no-trunc").stdout


def test_a_tag_is_no_repository(api: Scripted, run: Run) -> None:
    done = run("tags", "alpine:3.20")
    assert (done.exit_code, api.requests) == (2, [])
    assert "Name a repository without a tag" in done.stderr


def test_a_repository_that_is_not_there(api: Scripted, run: Run) -> None:
    api["GET /tags"] = refusal(404, "docker.io has no repository library/none", 4, "NAME_UNKNOWN")
    done = run("tags", "none")
    assert (done.exit_code, done.stdout, done.stderr) == (4, "", "mirror: docker.io has no repository library/none\n")


@pytest.mark.parametrize("verb", [["tag"], ["image", "tag"]])
def test_tag_is_silent_as_in_docker(api: Scripted, run: Run, verb: list[str]) -> None:
    api["POST /tag"] = {"name": "local/team/app:1", "digest": digest("d")}
    done = run(*verb, "alpine", "team/app:1")
    assert (done.exit_code, done.output) == (0, "")
    assert api.last.body == {"source": "alpine", "target": "team/app:1"}


@pytest.mark.parametrize(
    ("target", "code", "says"),
    [("UPPER", 2, "mirror: UPPER: invalid repository name"), ("a:", 2, "mirror: a:: invalid tag: nothing follows")],
)
def test_a_target_that_is_no_name(api: Scripted, run: Run, target: str, code: int, says: str) -> None:
    done = run("tag", "alpine", target)
    assert (done.exit_code, done.stdout, api.requests) == (code, "", [])
    assert done.stderr.startswith(says)


def test_a_source_that_is_not_here(api: Scripted, run: Run) -> None:
    api["POST /tag"] = refusal(404, "no such image here: none:1", 4)
    assert run("tag", "none:1", "x").exit_code == 4
    assert run("tag", "none:1").exit_code == 2
