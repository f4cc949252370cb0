import json
import os
from typing import Any

import pytest

from mirror.cli import transport
from tests.cli.conftest import Run
from tests.cli.samples import digest
from tests.cli.scripted import BREAK, Scripted, failed, refusal

NAME = "local/team/app:2"
TARGET = "ghcr.io/me/team/app:2"


def layer(letter: str, state: str, done: int = 0, name: str = NAME, **more: Any) -> dict[str, Any]:
    entry = {"event": "layer", "name": name, "digest": digest(letter), "size": 1000, "state": state, "done": done}
    return {**entry, "mounted_from": None, **more}


def image(name: str = NAME, target: str = TARGET) -> dict[str, Any]:
    return {"event": "image", "name": name, "target": target}


def pushed(name: str = NAME, target: str = TARGET, **more: Any) -> dict[str, Any]:
    return {
        "event": "pushed",
        "name": name,
        "target": target,
        "digest": digest("d"),
        "size": 1234,
        "sent_layers": 3,
        "layers": 9,
        "sent_bytes": 41_200_000,
        "bytes": 388_000_000,
        "mounted": 1,
        "existing": 5,
        **more,
    }


def end(ok: int = 1, failed: int = 0) -> dict[str, Any]:
    return {"event": "end", "ok": ok, "failed": failed}


ONE = [
    image(),
    *(layer(letter, "preparing") for letter in "abcf"),
    layer("a", "exists"),
    layer("b", "mounted", mounted_from="ghcr.io/me/base"),
    layer("c", "pushing", 500),
    layer("c", "pushed", 1000),
    layer("c", "pushed", 1000),
    layer("f", "skipped"),
    pushed(),
    end(),
]
LINES = f"""\
aaaaaaaaaaaa: Layer already exists
bbbbbbbbbbbb: Mounted from me/base
cccccccccccc: Pushed
ffffffffffff: Skipped foreign layer
2: digest: {digest("d")} size: 1234
sent 3 of 9 layers, 41.2MB of 388MB
"""
BODY = {
    "references": ["team/app:2"],
    "to": "ghcr.io/me",
    "platform": None,
    "all_tags": False,
    "dry_run": False,
    "jobs": 3,
}
TO = ("--to", "ghcr.io/me")
KEPT = "what was sent beside is there; the next push goes on from there"


def test_dockers_lines_and_what_was_sent(api: Scripted, run: Run) -> None:
    api["POST /push"] = ONE
    done = run("push", "team/app:2", *TO)
    assert (done.exit_code, done.stdout) == (0, LINES)
    assert done.stderr == "The push refers to repository [ghcr.io/me/team/app]\nteam/app:2: pushed\n"
    assert api.last.body == BODY
    assert run("image", "push", "team/app:2", *TO).stdout == LINES


def test_quiet_prints_the_final_reference_alone(api: Scripted, run: Run) -> None:
    api["POST /push"] = ONE
    done = run("push", "-q", "team/app", *TO)
    assert (done.stdout, done.stderr) == (f"{TARGET}\n", "")


def test_the_default_tag_is_remarked(api: Scripted, run: Run) -> None:
    api["POST /push"] = ONE
    assert run("push", "alpine").stderr.startswith("Using default tag: latest\n")
    assert "Using default tag" not in run("push", "-a", "alpine").stderr


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["--platform", "linux/arm64"], {"platform": "linux/arm64"}),
        (["-j", "7"], {"jobs": 7}),
        (["other:1"], {"references": ["team/app:2", "other:1"]}),
    ],
)
def test_what_it_asks_for(api: Scripted, run: Run, words: list[str], changed: dict[str, Any]) -> None:
    api["POST /push"] = ONE
    assert run("push", "team/app:2", *TO, *words).exit_code == 0
    assert api.last.body == {**BODY, **changed}


def test_all_tags(api: Scripted, run: Run) -> None:
    api["POST /push"] = ONE
    run("push", "-a", "team/app", *TO)
    assert api.last.body == {**BODY, "references": ["team/app"], "all_tags": True}
    refused = run("push", "-a", "team/app:2")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "tag can't be used with --all-tags/-a" in refused.stderr


@pytest.mark.parametrize(
    ("words", "says"), [([], "Missing argument"), (["x", "-j", "0"], "not in the range"), (["x", "--to"], "requires")]
)
def test_what_cannot_be_meant(api: Scripted, run: Run, words: list[str], says: str) -> None:
    done = run("push", *words)
    assert (done.exit_code, done.stdout, api.requests) == (2, "", [])
    assert says in done.stderr


def test_images_pushed_at_the_same_time_keep_their_lines_together(api: Scripted, run: Run) -> None:
    other, there = "docker.io/library/x:1", "ghcr.io/me/x:1"
    api["POST /push"] = [
        image(),
        image(other, there),
        layer("a", "exists"),
        layer("c", "pushed", name=other),
        pushed(other, there, layers=1, sent_layers=1),
        pushed(),
        end(2),
    ]
    assert run("push", "team/app:2", "x:1", *TO).stdout == (
        "The push refers to repository [ghcr.io/me/x]\ncccccccccccc: Pushed\n"
        f"1: digest: {digest('d')} size: 1234\nsent 1 of 1 layer, 41.2MB of 388MB\n"
        "The push refers to repository [ghcr.io/me/team/app]\naaaaaaaaaaaa: Layer already exists\n"
        f"2: digest: {digest('d')} size: 1234\nsent 3 of 9 layers, 41.2MB of 388MB\n"
    )


def test_an_image_without_a_tag(api: Scripted, run: Run) -> None:
    name, target = f"docker.io/library/x@{digest('d')}", f"localhost:5000/x@{digest('d')}"
    api["POST /push"] = [image(name, target), layer("b", "mounted", name=name), pushed(name, target), end()]
    done = run("push", f"x@{digest('d')}", "--to", "localhost:5000")
    assert done.stdout.splitlines()[:2] == ["bbbbbbbbbbbb: Mounted", f"digest: {digest('d')} size: 1234"]
    assert done.stderr.startswith("The push refers to repository [localhost:5000/x]\n")


def test_one_that_fails_does_not_stop_the_others(api: Scripted, run: Run) -> None:
    bad = "docker.io/library/none:1"
    api["POST /push"] = [ONE[0], image(bad, "ghcr.io/me/none:1"), failed(bad, "not here", 4), *ONE[1:-1], end(1, 1)]
    done = run("push", "team/app:2", "none:1", *TO)
    assert done.exit_code == 3
    assert done.stderr.splitlines()[-2:] == ["mirror: 1 of 2 failed:", "mirror:   none:1: not here"]
    assert "none:1: failed" in done.stderr


@pytest.mark.parametrize("code", [1, 2, 4, 5, 6, 9])
def test_the_only_one_that_fails_gives_its_exit_code(api: Scripted, run: Run, code: int) -> None:
    api["POST /push"] = [ONE[0], failed(NAME, "because", code), end(0, 1)]
    done = run("push", "-q", "team/app:2")
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", "mirror: because\n")


def test_a_refusal_before_anything_began(api: Scripted, run: Run) -> None:
    api["POST /push"] = refusal(404, "registry x.y is not configured here", 4)
    done = run("push", "team/app:2", "--to", "x.y")
    assert (done.exit_code, done.stderr) == (4, "mirror: registry x.y is not configured here\n")


@pytest.mark.parametrize(
    ("words", "events", "said"),
    [
        (["team/app:2"], [], ["No image pushed until then"]),
        (["team/app:2"], ONE[:8], ["No image pushed until then", KEPT]),
        (["team/app:2"], ONE[:-1], ["1 image pushed until then"]),
        (["team/app:2", "b:1"], ONE[:-1], ["1 image of 2 pushed until then"]),
        (
            ["team/app:2", "b:1"],
            [failed("docker.io/library/b:1", "not \x1bthere", 4)],
            ["No image of 2 pushed until then, 1 failed", "  b:1: not \\x1bthere"],
        ),
        (["--dry-run", "team/app:2"], [ONE[0]], ["Nothing was pushed"]),
    ],
)
@pytest.mark.parametrize("ending", [KeyboardInterrupt, BREAK])
def test_a_push_that_ends_early_says_what_was_done(
    api: Scripted,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    events: Any,
    said: list[str],
    ending: Any,
) -> None:
    def interrupted(*_: object) -> Any:
        yield from events
        raise KeyboardInterrupt

    if ending is BREAK:
        api["POST /push"] = [*events, BREAK]
        reason = f"the mirror at {os.environ['MIRROR_SERVER']} broke off: "
    else:
        monkeypatch.setattr(transport.Api, "stream", interrupted)
        reason = "interrupted"
    done = run("push", "--progress", "none", *words)
    assert done.exit_code == (1 if ending is BREAK else 130)
    lines = done.stderr.splitlines()
    assert lines[0].startswith(f"mirror: {reason}")
    assert lines[0].endswith(f". {said[0]}")
    assert lines[1:] == [f"mirror: {line}" for line in said[1:]]


def test_a_dry_run_tells_bytes(api: Scripted, run: Run) -> None:
    plan = {
        "event": "plan",
        "name": NAME,
        "target": TARGET,
        "digest": digest("d"),
        "send_layers": 2,
        "layers": 9,
        "send_bytes": 3_400_000,
        "bytes": 9_000_000,
        "fetch_bytes": 0,
    }
    api["POST /push"] = [ONE[0], plan, end()]
    done = run("push", "--dry-run", "team/app:2", *TO)
    assert api.last.body == {**BODY, "dry_run": True}
    assert done.stdout == (
        "IMAGE        TO                      LAYERS    TO SEND   TO FETCH\n"
        "team/app:2   ghcr.io/me/team/app:2   2 of 9    3.4MB     0B\n"
    )
    assert done.stderr.splitlines()[-1].startswith("Nothing was pushed: 3.4MB would be sent at most")
    quiet = run("push", "--dry-run", "-q", "team/app:2", *TO)
    assert (quiet.stdout, quiet.stderr) == (f"{TARGET}\n", "")


def test_remarks_go_to_standard_error(api: Scripted, run: Run) -> None:
    api["POST /push"] = [ONE[0], {"event": "note", "name": NAME, "message": "fetched \x1bfirst"}, *ONE[1:]]
    done = run("push", "team/app:2")
    assert (done.exit_code, done.stdout) == (0, LINES)
    assert done.stderr.splitlines()[-1] == "team/app:2: fetched \\x1bfirst"
    assert run("push", "-q", "team/app:2").stderr == ""


def test_json_progress_is_every_event_on_standard_error(api: Scripted, run: Run) -> None:
    api["POST /push"] = ONE
    done = run("push", "--progress", "json", "team/app:2")
    assert [json.loads(line) for line in done.stderr.splitlines()] == ONE
    assert done.stdout == LINES


def test_foreign_text_is_escaped(api: Scripted, run: Run) -> None:
    name = "x\x1b[2J:1"
    api["POST /push"] = [
        image(name, name),
        layer("a", "mounted", name=name, mounted_from="g\x1b/y\x1b"),
        layer("a", "pushed", name=name) | {"digest": "\x1b"},
        pushed(name, name, digest="\x1b"),
        failed("\x1b", "\x1b", 1),
        end(1, 1),
    ]
    done = run("push", "x")
    assert "\x1b" not in done.stdout + done.stderr
    assert "Mounted from y\\x1b" in done.stdout


def test_an_answer_of_another_kind_breaks_nothing(api: Scripted, run: Run) -> None:
    api["POST /push"] = [{"event": "pushed"}, {"event": "layer", "state": 7}, {"event": "plan"}, {"no": 1}, end()]
    assert run("push", "x:1").exit_code == 0
    assert run("push", "--dry-run", "x:1").exit_code == 0
