import json
from typing import Any

import pytest

from mirror.cli import transport
from tests.cli.conftest import Run
from tests.cli.samples import digest, image
from tests.cli.scripted import Request, Scripted, failed, refusal

TYPES: list[dict[str, Any]] = [
    {
        "type": "Images",
        "total": 120,
        "active": 33,
        "logical": 9_000_000_000,
        "on_disk": 6_000_000_000,
        "saved": 3_000_000_000,
        "reclaimable": 2_700_000_000,
    },
    {"type": "Staging", "total": 0, "active": 0, "logical": 0, "on_disk": 0, "saved": 0, "reclaimable": 0},
]


# --- df ---------------------------------------------------------------------------------------------------


def test_df(api: Scripted, run: Run) -> None:
    api["GET /df"] = {"types": TYPES, "images": []}
    done = run("df")
    assert (done.exit_code, done.stderr, api.last.query) == (0, "", {})
    assert done.stdout == (
        "TYPE      TOTAL     ACTIVE    LOGICAL   ON DISK   SAVED     RECLAIMABLE\n"
        "Images    120       33        9GB       6GB       3GB       2.7GB (45%)\n"
        "Staging   0         0         0B        0B        0B        0B\n"
    )


def test_df_with_each_image(api: Scripted, run: Run) -> None:
    api["GET /df"] = {"types": TYPES, "images": [image()]}
    shown = run("df", "-v").stdout
    assert api.last.query == {"verbose": ["true"]}
    assert shown.partition("\nImages space usage:\n\n")[2] == (
        "REPOSITORY   TAG       IMAGE ID       CREATED       SIZE      UNIQUE    LAST PULLED\n"
        "alpine       3.20      aaaaaaaaaaaa   3 weeks ago   3.62MB    3.62MB    2 hours ago\n"
    )
    assert len(json.loads(run("df", "-v", "--format", "json").stdout)["images"]) == 1


def test_df_forms(api: Scripted, run: Run) -> None:
    api["GET /df"] = {"types": TYPES}
    assert (
        run("df", "--format", "{{.Type}} {{.Size}} {{.Reclaimable}}").stdout
        == "Images 6GB 2.7GB (45%)\nStaging 0B 0B\n"
    )
    assert json.loads(run("df", "--format", "json").stdout) == TYPES
    assert run("df", "-v", "--format", "jsonl").exit_code == 2


# --- verify -----------------------------------------------------------------------------------------------


def verified(*bad: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"event": "progress", "done": 1, "total": 1200, "bytes": 10},
        *bad,
        {"event": "progress", "done": 1200, "total": 1200, "bytes": 41_200_000},
        {"event": "end", "ok": 1200 - len(bad), "failed": 0},
    ]


def bad(state: str, *names: str) -> dict[str, Any]:
    return {"event": "bad", "digest": digest("b"), "names": list(names), "state": state}


def test_all_is_well(api: Scripted, run: Run) -> None:
    api["POST /verify"] = verified()
    done = run("verify")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "1,200 blobs verified, 41.2MB\n")
    assert api.last.body == {"repair": False, "references": []}


def test_what_was_healed_is_told_and_is_no_failure(api: Scripted, run: Run) -> None:
    api["POST /verify"] = verified(bad("healed", "docker.io/library/alpine:3.20", "local/team/app:1"))
    done = run("verify", "--repair", "alpine")
    assert done.exit_code == 0
    assert done.stdout == f"{digest('b')}: damaged, and fetched anew (alpine:3.20, team/app:1)\n"
    assert api.last.body == {"repair": True, "references": ["alpine"]}


@pytest.mark.parametrize(
    ("removed", "says"), [(False, "belong to nothing"), (True, "that belonged to nothing removed")]
)
def test_files_that_belong_to_nothing_are_no_failure(api: Scripted, run: Run, removed: bool, says: str) -> None:
    api["POST /verify"] = verified({"event": "unknown", "files": 2, "bytes": 1500, "removed": removed})
    done = run("verify")
    assert (done.exit_code, done.stderr) == (0, f"1,200 blobs verified, 41.2MB; 2 files (1.5kB) {says}\n")


@pytest.mark.parametrize(
    ("words", "state", "line", "advice"),
    [
        ([], "quarantined", "damaged, and taken out of use (no image)", "run mirror verify --repair"),
        (
            ["--repair"],
            "lost",
            "gone or damaged, and not replaced (no image)",
            "pull their images again once their registry has them",
        ),
        ([], "new\x1b", "new\\x1b (no image)", "run mirror verify --repair"),
    ],
)
def test_damage_that_is_left_exits_7(
    api: Scripted, run: Run, words: list[str], state: str, line: str, advice: str
) -> None:
    api["POST /verify"] = verified(bad(state))
    done = run("verify", *words)
    assert (done.exit_code, done.stdout) == (7, f"{digest('b')}: {line}\n")
    assert done.stderr.splitlines()[-1] == f"mirror: 1 damaged, 0 healed: {advice}"


def test_one_of_several_that_is_not_there_exits_3(api: Scripted, run: Run) -> None:
    api["POST /verify"] = [failed("missing", "no such image: missing", 4), *verified()[:-1], end(1200, 1)]
    done = run("verify", "--progress", "none", "A", "missing")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == ("1,200 blobs verified, 41.2MB\nmirror: 1 of 2 failed:\nmirror:   no such image: missing\n")
    assert run("verify", "missing").exit_code == 4


def test_damage_counts_more_than_what_is_not_there(api: Scripted, run: Run) -> None:
    events = [failed("missing", "no such image: missing", 4), *verified(bad("quarantined"))[:-1], end(1199, 1)]
    api["POST /verify"] = events
    done = run("verify", "--progress", "none", "A", "missing")
    assert done.exit_code == 7
    assert done.stderr.splitlines()[1:] == [
        "mirror: 1 damaged, 0 healed: run mirror verify --repair",
        "mirror: 1 of 2 failed:",
        "mirror:   no such image: missing",
    ]


def end(ok: int, failed: int) -> dict[str, Any]:
    return {"event": "end", "ok": ok, "failed": failed}


def test_a_verify_that_is_interrupted_says_how_far_it_came(
    api: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Any:
        yield {"event": "progress", "done": 5, "total": 10, "bytes": 1000}
        raise KeyboardInterrupt

    monkeypatch.setattr(transport.Api, "stream", interrupted)
    done = run("verify")
    assert (done.exit_code, done.stderr, api.requests) == (
        130,
        "mirror: interrupted. 5 blobs verified, 1kB until then\n",
        [],
    )


# --- pins -------------------------------------------------------------------------------------------------


def test_pin(api: Scripted, run: Run) -> None:
    api["POST /pins"] = {"pins": []}
    done = run("pin", "alpine:3.20", "team/app:1")
    assert (done.exit_code, done.output) == (0, "")
    assert api.last.body == {"references": ["alpine:3.20", "team/app:1"]}
    run("pin", "--owner", "release", "x")
    assert api.last.body == {"references": ["x"], "owner": "release"}


def test_pins_are_listed(api: Scripted, run: Run) -> None:
    api["GET /pins"] = {"pins": [{"name": "docker.io/library/alpine:3.20", "owner": "user"}]}
    assert run("pin").stdout == "REFERENCE     OWNER\nalpine:3.20   user\n"
    assert run("pin", "--format", "{{.Owner}}").stdout == "user\n"


def test_unpin(api: Scripted, run: Run) -> None:
    def one(request: Request) -> Any:
        return refusal(404, "gone is not pinned", 4) if request.query["ref"] == ["gone"] else {}

    api["DELETE /pins"] = one
    assert run("unpin", "alpine:3.20").output == ""
    assert api.last.query == {"ref": ["alpine:3.20"]}
    done = run("unpin", "gone", "x", "--owner", "me")
    assert (done.exit_code, done.stderr) == (3, "mirror: 1 of 2 failed:\nmirror:   gone is not pinned\n")
    assert api.last.query == {"ref": ["x"], "owner": ["me"]}
    assert run("unpin", "gone").exit_code == 4
    assert run("unpin").exit_code == 2
