import json
import time
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.cli.samples import digest
from tests.cli.scripted import Scripted, on_port


def push(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"ghcr.io/me/app:{number}",
        "registry": "ghcr.io",
        "repository": "ghcr.io/me/app",
        "reference": str(number),
        "digest": digest("d"),
        "queued_at": time.time() - 7300,
        "attempts": 0,
        "tried_at": None,
        "next_at": None,
        "refused": False,
        "failure": None,
        "sending": None,
        **more,
    }


SENDING = {"since": 1.0, "layers_done": 1, "layers": 9, "bytes_done": 41_200_000, "bytes": 388_000_000}
WHY = "ghcr.io does not answer: " + "connection refused " * 5


def test_what_waits_since_when_why_and_until_when(api: Scripted, run: Run) -> None:
    found = [
        push(1, attempts=3, failure=WHY, next_at=time.time() + 300.5),
        push(2, attempts=1, failure="ghcr.io does not want it", refused=True, next_at=time.time() + 3000.5),
        push(3, sending=SENDING),
        push(4, next_at=time.time() - 5),
        push(5),
    ]
    api["GET /queue"] = {"pushes": found}
    lines = run("queue").stdout.splitlines()
    assert lines[0].split() == ["ID", "NAME", "DIGEST", "SINCE", "TRIES", "NEXT", "WHY"]
    cells = [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in lines[1:]]
    assert cells[0] == ["1", "ghcr.io/me/app:1", "d" * 12, "2 hours ago", "3", "in 5 minutes", WHY.strip()]
    assert cells[1][5:] == ["in 50 minutes", "refused: ghcr.io does not want it"]
    assert cells[2][5:] == ["now", "sending: 1 of 9 layers, 41.2MB of 388MB"]
    assert cells[3][5:] == cells[4][5:] == ["soon"]


def test_other_forms(api: Scripted, run: Run) -> None:
    found = [push(1)]
    api["GET /queue"] = {"pushes": found}
    assert json.loads(run("queue", "--format", "json").stdout) == json.loads(json.dumps(found))
    assert run("queue", "--format", "{{.ID}} {{.Name}} {{.Registry}}").stdout == "1 ghcr.io/me/app:1 ghcr.io\n"
    assert digest("d") in run("queue", "--no-trunc").stdout
    assert run("queue", "--format", "odd").exit_code == 2


def test_an_empty_queue(api: Scripted, run: Run) -> None:
    api["GET /queue"] = {"pushes": []}
    assert run("queue").stdout.split() == ["ID", "NAME", "DIGEST", "SINCE", "TRIES", "NEXT", "WHY"]


@pytest.mark.parametrize(
    ("words", "body"), [([], {"all": True}), (["1"], {"ids": [1]}), (["1", "17"], {"ids": [1, 17]})]
)
def test_retry(api: Scripted, run: Run, words: list[str], body: dict[str, Any]) -> None:
    api["POST /queue"] = {"count": 2, "unknown": []}
    done = run("queue", "retry", *words)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "Tried now: 2 pushes\n", "")
    assert api.last.body == body


def test_drop(api: Scripted, run: Run) -> None:
    api["DELETE /queue"] = {"count": 1, "unknown": []}
    assert run("queue", "drop", "1", "17").stdout == "Dropped: 1 push\n"
    assert api.last.query == {"id": ["1", "17"]}
    run("queue", "drop", "--all")
    assert api.last.query == {"all": ["true"]}


def test_those_that_are_none(api: Scripted, run: Run) -> None:
    api["DELETE /queue"] = {"count": 1, "unknown": [17]}
    done = run("queue", "drop", "1", "17")
    assert (done.exit_code, done.stdout) == (3, "Dropped: 1 push\n")
    assert done.stderr == "mirror: 1 of 2 failed:\nmirror:   there is no push 17 in the queue\n"
    api["POST /queue"] = {"count": 0, "unknown": [17]}
    done = run("queue", "retry", "17")
    assert (done.exit_code, done.stdout, done.stderr) == (4, "", "mirror: there is no push 17 in the queue\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["drop"], "Give the IDs of pushes, or --all."),
        (["drop", "1", "--all"], "Give the IDs of pushes, or --all."),
        (["drop", "x"], "is not a valid integer"),
        (["retry", "-1"], "No such option"),
        (["again"], "No such command"),
    ],
)
def test_what_cannot_be_meant(api: Scripted, run: Run, words: list[str], says: str) -> None:
    done = run("queue", *words)
    assert (done.exit_code, done.stdout, api.requests) == (2, "", [])
    assert says in done.stderr


@pytest.mark.parametrize("words", [["--server", "{}", "retry"], ["retry", "--server", "{}"]])
def test_which_mirror_may_be_said_before_the_verb_and_behind(api: Scripted, run: Run, words: list[str]) -> None:
    other = Scripted()
    other["POST /queue"] = {"count": 0, "unknown": []}
    with on_port(other) as authority:
        assert run("queue", *(word.format(f"http://{authority}") for word in words)).exit_code == 0
    assert (other.asked, api.asked) == (["POST /queue"], [])


def test_foreign_text_is_escaped(api: Scripted, run: Run) -> None:
    api["GET /queue"] = {"pushes": [push(1, failure="\x1b[2J", name="x\x1b"), {"id": "\x1b"}, {"sending": 7}, 8]}
    api["DELETE /queue"] = {"unknown": ["\x1b"], "count": "x"}
    done = [run("queue"), run("queue", "drop", "1")]
    assert all("\x1b" not in each.stdout + each.stderr for each in done)
