import json

import pytest

from tests.cli.conftest import Run
from tests.cli.samples import digest, image
from tests.cli.scripted import Request, Scripted, refusal

OWN = image(name="team/app", tag="1", id=None, created=None, size=1, unique=0, last_pulled=None, platforms=[])
DANGLING = image(name="ghcr.io/me/x", tag=None, created="0001-01-01T00:00:00Z")


def answer(*found: dict[str, object]) -> dict[str, object]:
    return {"images": list(found), "next": None, "totals": {"images": len(found), "bytes": 7_000_000}}


def test_dockers_columns_and_two_more(api: Scripted, run: Run) -> None:
    api["GET /images"] = answer(image(), OWN, DANGLING)
    done = run("images")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == (
        "REPOSITORY     TAG       IMAGE ID       CREATED       SIZE      UNIQUE    LAST PULLED\n"
        "alpine         3.20      aaaaaaaaaaaa   3 weeks ago   3.62MB    3.62MB    2 hours ago\n"
        "team/app       1         dddddddddddd   N/A           1B        0B        never\n"
        "ghcr.io/me/x   <none>    aaaaaaaaaaaa   N/A           3.62MB    3.62MB    2 hours ago\n"
    )


def test_an_image_of_which_a_layer_is_missing_does_not_look_whole(api: Scripted, run: Run) -> None:
    """As after a pull that failed."""
    api["GET /images"] = answer(image(complete=False), OWN)
    assert run("images").stdout.splitlines()[1].split()[5:8] == ["ago", "3.62MB", "(part)"]
    assert run("images", "--tree").stdout.splitlines()[1].split()[2:4] == ["3.62MB", "(part)"]
    assert run("images", "--format", "{{.Size}} {{.Complete}}").stdout == "3.62MB false\n1B true\n"
    assert "(part)" not in "".join(run("images", "-a").stdout.splitlines()[2:])


def test_nothing_held_is_a_header_as_in_docker(api: Scripted, run: Run) -> None:
    api["GET /images"] = answer()
    assert run("images").stdout == "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE      UNIQUE    LAST PULLED\n"
    for words in (["-q"], ["--format", "{{.ID}}"], ["--format", "jsonl"]):
        assert run("images", *words).stdout == ""
    assert json.loads(run("images", "--format", "json").stdout) == []


def test_image_ls_is_the_same(api: Scripted, run: Run) -> None:
    api["GET /images"] = answer(image())
    assert run("image", "ls").stdout == run("image", "list").stdout == run("images").stdout


@pytest.mark.parametrize(
    ("words", "query"),
    [
        ([], {}),
        (["alpine"], {"repository": ["alpine"]}),
        (["alpine:3.20"], {"reference": ["alpine:3.20"]}),
        (["localhost:5000/x"], {"repository": ["localhost:5000/x"]}),
        ([f"alpine@{digest('d')}"], {"reference": [f"alpine@{digest('d')}"]}),
        (["-f", "label=a=b", "--filter", "reference=al*"], {"filter": ["label=a=b", "reference=al*"]}),
        (["-f", "dangling=true"], {"dangling": ["true"]}),
    ],
)
def test_what_it_asks_for(api: Scripted, run: Run, words: list[str], query: dict[str, list[str]]) -> None:
    api["GET /images"] = answer()
    assert run("images", *words).exit_code == 0
    assert api.last.query == query


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-f", "colour=red"], "there is no filter 'colour'; there are dangling, label,"),
        (["-f", "dangling"], "'dangling' is not of the form KEY=VALUE"),
        (["-f", "dangling=perhaps"], "dangling is true or false"),
        (["--tree", "-q"], "--tree goes with none of"),
        (["--format", "yaml"], "'yaml' is not one of table, json, jsonl"),
        (["--format", "{{.Colour}}"], "there is no .Colour; there is .Repository, .Tag"),
        (["--format", "{{.ID"], "unclosed action: {{.ID"),
    ],
)
def test_what_cannot_be_meant_is_said(api: Scripted, run: Run, words: list[str], says: str) -> None:
    api["GET /images"] = answer()
    done = run("images", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert says in done.stderr


def test_all_shows_what_is_held_below_an_index(api: Scripted, run: Run) -> None:
    single = image(name="one", platforms=[{"platform": "linux/amd64", "digest": digest("d"), "held": True}])
    api["GET /images"] = answer(image(), single)
    assert run("images", "-a", "--format", "{{.Repository}} {{.Tag}} {{.ID}} {{.Size}}").stdout == (
        "alpine 3.20 aaaaaaaaaaaa 3.62MB\n"
        "alpine <none> aaaaaaaaaaaa 3.62MB\n"
        "alpine <none> 333333333333 1.2kB\n"
        "one 3.20 aaaaaaaaaaaa 3.62MB\n"
    )


def test_ids_alone(api: Scripted, run: Run) -> None:
    api["GET /images"] = answer(image(), OWN)
    assert run("images", "-q").stdout == "aaaaaaaaaaaa\ndddddddddddd\n"
    assert run("images", "-q", "--no-trunc").stdout == f"{digest('a')}\n{digest('d')}\n"


def test_digests_stand_after_the_tag(api: Scripted, run: Run) -> None:
    api["GET /images"] = answer(image())
    header, row = run("images", "--digests").stdout.splitlines()
    assert header.split()[:3] == ["REPOSITORY", "TAG", "DIGEST"]
    assert row.split()[:3] == ["alpine", "3.20", digest("d")]
    assert digest("a") in run("images", "--no-trunc").stdout


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("{{.Repository}}:{{.Tag}}", "alpine:3.20\n"),
        ("{{.ID}} {{.Size}} {{.CreatedSince}} {{.UniqueSize}}", "aaaaaaaaaaaa 3.62MB 3 weeks ago 3.62MB\n"),
        ("{{.Platforms}} {{.Pinned}} {{.Origin}}", "linux/amd64, linux/arm64/v8 false upstream\n"),
        ("table {{.Repository}}\\t{{.ID}}", "REPOSITORY   IMAGE ID\nalpine       aaaaaaaaaaaa\n"),
        ("{{json .Tag}}", '"3.20"\n'),
    ],
)
def test_templates_see_dockers_fields(api: Scripted, run: Run, form: str, shown: str) -> None:
    api["GET /images"] = answer(image())
    assert run("images", "--format", form).stdout == shown


def test_created_at_is_dockers(api: Scripted, run: Run) -> None:
    api["GET /images"] = answer(image(created="2024-05-22T18:18:12.052034407Z"), OWN)
    assert run("images", "--format", "{{.CreatedAt}}").stdout == "2024-05-22 18:18:12 +0000 UTC\nN/A\n"


def test_json_is_the_apis_own(api: Scripted, run: Run) -> None:
    found = [image(), OWN]
    api["GET /images"] = answer(*found)
    assert json.loads(run("images", "--format", "json").stdout) == found
    assert [json.loads(line) for line in run("images", "--format", "jsonl").stdout.splitlines()] == found


def test_every_page_is_shown(api: Scripted, run: Run) -> None:
    def page(request: Request) -> dict[str, object]:
        last = "cursor" in request.query
        return {**answer(image(tag="2" if last else "1")), "next": None if last else "more"}

    api["GET /images"] = page
    assert run("images", "--format", "{{.Tag}}").stdout == "1\n2\n"


def test_the_tree(api: Scripted, run: Run) -> None:
    api["GET /images"] = answer(image(), OWN, DANGLING)
    assert run("images", "--tree").stdout == (
        "IMAGE                 ID             SIZE      UNIQUE\n"
        "alpine:3.20           aaaaaaaaaaaa   3.62MB    3.62MB\n"
        "├─ linux/amd64        aaaaaaaaaaaa   3.62MB\n"
        "├─ linux/arm64/v8     222222222222   -\n"
        "└─ attestation        333333333333   1.2kB\n"
        "team/app:1            dddddddddddd   1B        0B\n"
        "ghcr.io/me/x@<none>   aaaaaaaaaaaa   3.62MB    3.62MB\n"
        "├─ linux/amd64        aaaaaaaaaaaa   3.62MB\n"
        "├─ linux/arm64/v8     222222222222   -\n"
        "└─ attestation        333333333333   1.2kB\n"
    )


def test_foreign_text_is_escaped_in_every_form(api: Scripted, run: Run) -> None:
    api["GET /images"] = answer(image(name="a\x1b[2Jb", tag="x\ty\u202e"))
    for form in ("table", "{{.Repository}}{{.Tag}}", "table {{.Repository}}\t{{.Tag}}", "jsonl", "{{json .}}"):
        shown = run("images", "--format", form).stdout
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    assert "a\\x1b[2Jb" in run("images").stdout
    assert "\x1b" not in run("images", "--tree").stdout


@pytest.mark.parametrize("code", [1, 2, 4, 5, 6, 8, 9])
def test_a_refusal_is_said_with_its_exit_code(api: Scripted, run: Run, code: int) -> None:
    api["GET /images"] = refusal(500, "because of this", code)
    done = run("images")
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", "mirror: because of this\n")


def test_an_answer_of_another_kind_is_nothing(api: Scripted, run: Run) -> None:
    api["GET /images"] = {"images": [1, {"name": 7, "size": "x", "created": 3, "platforms": "?"}], "totals": []}
    assert run("images").stdout.splitlines()[1].split() == ["7", "<none>", "<none>", "N/A", "-", "-", "never"]
