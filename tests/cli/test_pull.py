import io
import json
import os
from typing import Any

import pytest

from mirror.cli import transport
from tests.cli.conftest import Run
from tests.cli.samples import digest
from tests.cli.scripted import BREAK, Scripted, failed, refusal

ALPINE = "docker.io/library/alpine:3.20"


def layer(name: str, letter: str, state: str, size: int = 1000, done: int = 0) -> dict[str, Any]:
    return {"event": "layer", "name": name, "digest": digest(letter), "size": size, "state": state, "done": done}


def pulled(name: str, status: str = "newer", fetched: int = 3000, held: int = 1000) -> dict[str, Any]:
    return {
        "event": "pulled",
        "name": name,
        "digest": digest("d"),
        "platform": "linux/amd64",
        "status": status,
        "bytes_fetched": fetched,
        "bytes_held": held,
    }


def end(ok: int = 1, failed: int = 0) -> dict[str, Any]:
    return {"event": "end", "ok": ok, "failed": failed}


ONE = [
    {"event": "image", "name": ALPINE},
    layer(ALPINE, "a", "exists"),
    layer(ALPINE, "b", "waiting"),
    layer(ALPINE, "b", "downloading", done=500),
    layer(ALPINE, "b", "complete", done=1000),
    layer(ALPINE, "b", "complete", done=1000),
    pulled(ALPINE),
    end(),
]
LINES = f"""\
aaaaaaaaaaaa: Already exists
bbbbbbbbbbbb: Pull complete
Digest: {digest("d")}
Status: Downloaded newer image for alpine:3.20
{ALPINE}
"""
KEPT = "what was downloaded beside is kept; the next pull goes on from there"
BODY = {
    "references": ["alpine:3.20"],
    "platforms": [],
    "all_tags": False,
    "if_missing": False,
    "pin": False,
    "dry_run": False,
    "jobs": 3,
}


def test_dockers_lines_and_last_the_canonical_reference(api: Scripted, run: Run) -> None:
    api["POST /pull"] = ONE
    done = run("pull", "alpine:3.20")
    assert (done.exit_code, done.stdout) == (0, LINES)
    assert done.stderr == ("3.20: Pulling from library/alpine\nalpine:3.20: fetched 3kB, 1kB were here already\n")
    assert api.last.body == BODY


def test_an_image_that_is_up_to_date(api: Scripted, run: Run) -> None:
    api["POST /pull"] = [ONE[0], pulled(ALPINE, "up_to_date"), end()]
    assert run("pull", "alpine:3.20").stdout.splitlines()[1] == "Status: Image is up to date for alpine:3.20"


def test_quiet_prints_the_reference_alone(api: Scripted, run: Run) -> None:
    api["POST /pull"] = ONE
    done = run("pull", "-q", "alpine")
    assert (done.stdout, done.stderr) == (f"{ALPINE}\n", "")


def test_the_default_tag_is_remarked(api: Scripted, run: Run) -> None:
    api["POST /pull"] = ONE
    assert run("pull", "alpine").stderr.startswith("Using default tag: latest\n")
    assert "Using default tag" not in run("pull", "-a", "alpine").stderr


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (
            ["--platform", "linux/amd64,linux/arm64", "--platform", "all"],
            {"platforms": ["linux/amd64", "linux/arm64", "all"]},
        ),
        (["--if-missing", "--pin", "-j", "7"], {"if_missing": True, "pin": True, "jobs": 7}),
        (["busybox:1"], {"references": ["alpine:3.20", "busybox:1"]}),
    ],
)
def test_what_it_asks_for(api: Scripted, run: Run, words: list[str], changed: dict[str, Any]) -> None:
    api["POST /pull"] = ONE
    assert run("pull", "alpine:3.20", *words).exit_code == 0
    assert api.last.body == {**BODY, **changed}


def test_all_tags(api: Scripted, run: Run) -> None:
    api["POST /pull"] = ONE
    run("pull", "-a", "alpine")
    assert api.last.body == {**BODY, "references": ["alpine"], "all_tags": True}
    refused = run("pull", "-a", "alpine:3.20")
    assert refused.exit_code == 2
    assert "A tag can't be used with --all-tags/-a." in refused.stderr


@pytest.mark.parametrize("from_stdin", [True, False])
def test_names_from_a_file_or_standard_input(api: Scripted, run: Run, tmp_path: Any, from_stdin: bool) -> None:
    names = "# our images\n\nalpine:3.20   # small\n  ghcr.io/me/x:1\n"
    (tmp_path / "list").write_text(names)
    api["POST /pull"] = ONE
    run("pull", "-f", "-" if from_stdin else str(tmp_path / "list"), "first:1", stdin=names)
    assert api.last.body["references"] == ["first:1", "alpine:3.20", "ghcr.io/me/x:1"]


@pytest.mark.parametrize(
    ("words", "stdin", "says"),
    [
        ([], None, "Name an image to pull, or a file of names with -f."),
        (["-f", "-"], "# nothing\n", "Name an image to pull"),
        (["-f", "-"], b"\xff\xfe", "is no text"),
        (["-f", "/does/not/exist"], None, "No such file or directory"),
        (["x", "-j", "0"], None, "not in the range"),
        (["x", "--progress", "loud"], None, "'loud' is not one of"),
    ],
)
def test_what_cannot_be_meant(api: Scripted, run: Run, words: list[str], stdin: Any, says: str) -> None:
    done = run("pull", *words, stdin=stdin)
    assert (done.exit_code, done.stdout, api.requests) == (2, "", [])
    assert says in done.stderr


def test_images_pulled_at_the_same_time_keep_their_lines_together(api: Scripted, run: Run) -> None:
    other = "ghcr.io/me/x:1"
    api["POST /pull"] = [
        {"event": "image", "name": ALPINE},
        {"event": "image", "name": other},
        layer(ALPINE, "a", "exists"),
        layer(other, "c", "complete"),
        layer(ALPINE, "b", "complete"),
        pulled(other),
        pulled(ALPINE),
        end(2),
    ]
    assert run("pull", "alpine:3.20", other).stdout == (
        f"cccccccccccc: Pull complete\nDigest: {digest('d')}\n"
        f"Status: Downloaded newer image for {other}\n{other}\n{LINES}"
    )


def test_one_that_fails_does_not_stop_the_others(api: Scripted, run: Run) -> None:
    bad = "docker.io/library/none:1"
    api["POST /pull"] = [
        ONE[0],
        {"event": "image", "name": bad},
        failed(bad, "not found at docker.io", 4),
        *ONE[1:-1],
        end(1, 1),
    ]
    done = run("pull", "alpine:3.20", "none:1")
    assert (done.exit_code, done.stdout) == (3, LINES)
    assert done.stderr.splitlines()[-3:] == [
        "alpine:3.20: fetched 3kB, 1kB were here already",
        "mirror: 1 of 2 failed:",
        "mirror:   none:1: not found at docker.io",
    ]
    assert "none:1: failed" in done.stderr


@pytest.mark.parametrize("code", [1, 2, 4, 5, 6, 7, 9])
def test_the_only_one_that_fails_gives_its_exit_code(api: Scripted, run: Run, code: int) -> None:
    api["POST /pull"] = [ONE[0], failed(ALPINE, "because", code), end(0, 1)]
    done = run("pull", "-q", "alpine:3.20")
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", "mirror: because\n")


def test_a_refusal_before_anything_began(api: Scripted, run: Run) -> None:
    api["POST /pull"] = refusal(403, "not for you", 5)
    done = run("pull", "alpine:3.20")
    assert (done.exit_code, done.stderr) == (5, "mirror: not for you\n")


def test_a_mirror_that_breaks_off(api: Scripted, run: Run) -> None:
    api["POST /pull"] = [*ONE[:2], BREAK]
    done = run("pull", "alpine:3.20")
    assert done.exit_code == 1
    assert "broke off" in done.stderr
    assert done.stdout == "aaaaaaaaaaaa: Already exists\n"


@pytest.mark.parametrize(
    ("words", "events", "said"),
    [
        (["alpine:3.20"], [], ["No image pulled until then"]),
        (["alpine:3.20"], ONE[:4], ["No image pulled until then", KEPT]),
        (["alpine:3.20"], ONE[:-1], ["1 image pulled until then"]),
        (["alpine:3.20", "b", "c"], [*ONE[:-1], layer("b", "c", "complete")], ["1 image of 3 pulled until then", KEPT]),
        (["-a", "alpine"], [*ONE[:-1], pulled("b")], ["2 images pulled until then"]),
        (
            ["alpine:3.20", "b:1"],
            [failed("docker.io/library/b:1", "not \x1bthere", 4)],
            ["No image of 2 pulled until then, 1 failed", "  b:1: not \\x1bthere"],
        ),
        (["--dry-run", "alpine:3.20"], [ONE[0]], ["Nothing was pulled"]),
    ],
)
@pytest.mark.parametrize("ending", [KeyboardInterrupt, BREAK])
def test_a_pull_that_ends_early_says_what_was_done(
    api: Scripted,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    events: Any,
    said: list[str],
    ending: Any,
) -> None:
    """And nothing that is not so: what was not begun is not kept, and a dry run downloads nothing."""

    def interrupted(*_: object) -> Any:
        yield from events
        raise KeyboardInterrupt

    if ending is BREAK:
        api["POST /pull"] = [*events, BREAK]
        reason = f"the mirror at {os.environ['MIRROR_SERVER']} broke off: "
    else:
        monkeypatch.setattr(transport.Api, "stream", interrupted)
        reason = "interrupted"
    done = run("pull", "--progress", "none", *words)
    assert done.exit_code == (1 if ending is BREAK else 130)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Using default tag")]
    assert lines[0].startswith(f"mirror: {reason}")
    assert lines[0].endswith(f". {said[0]}")
    assert lines[1:] == [f"mirror: {line}" for line in said[1:]]


def test_a_dry_run_tells_bytes(api: Scripted, run: Run) -> None:
    plan = {"event": "plan", "name": ALPINE, "digest": digest("d"), "fetch_bytes": 3_400_000, "held_bytes": 1000}
    api["POST /pull"] = [ONE[0], plan, end()]
    done = run("pull", "--dry-run", "alpine:3.20")
    assert api.last.body == {**BODY, "dry_run": True}
    assert done.stdout == (
        "IMAGE                           TO FETCH   HELD\ndocker.io/library/alpine:3.20   3.4MB      1kB\n"
    )
    assert done.stderr.splitlines()[-1].startswith("Nothing was pulled: 3.4MB would be fetched at most")
    quiet = run("pull", "--dry-run", "-q", "alpine:3.20")
    assert (quiet.stdout, quiet.stderr) == (f"{ALPINE}\n", "")


def test_remarks_go_to_standard_error(api: Scripted, run: Run) -> None:
    remark = {"event": "note", "name": ALPINE, "message": "not \x1basked"}
    api["POST /pull"] = [ONE[0], remark, *ONE[1:]]
    done = run("pull", "alpine:3.20")
    assert (done.exit_code, done.stdout) == (0, LINES)
    assert done.stderr.splitlines()[-1] == "alpine:3.20: not \\x1basked"
    assert run("pull", "-q", "alpine:3.20").stderr == ""


def test_json_progress_is_every_event_on_standard_error(api: Scripted, run: Run) -> None:
    api["POST /pull"] = ONE
    done = run("pull", "--progress", "json", "alpine:3.20")
    assert [json.loads(line) for line in done.stderr.splitlines()] == ONE
    assert done.stdout == LINES
    assert run("pull", "--progress", "none", "alpine:3.20").stderr == ""


def test_foreign_text_is_escaped(api: Scripted, run: Run) -> None:
    name = "x\x1b[2J:1"
    api["POST /pull"] = [
        {"event": "image", "name": name},
        layer(name, "a", "complete") | {"digest": "\x1b"},
        pulled(name) | {"digest": "\x1b"},
        failed("\x1b", "\x1b", 1),
        end(1, 1),
    ]
    done = run("pull", "x")
    assert "\x1b" not in done.stdout + done.stderr
    assert io.StringIO(done.stdout).readlines()[-1] == "x\\x1b[2J:1\n"
