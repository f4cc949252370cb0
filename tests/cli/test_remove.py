import time
from datetime import datetime
from typing import Any

import click
import pytest

from mirror.cli import remove, transport
from tests.cli.conftest import Run
from tests.cli.samples import digest
from tests.cli.scripted import BREAK, Request, Scripted, failed, refusal

EVENTS = [
    {"event": "untagged", "name": "docker.io/library/alpine:3.20"},
    {"event": "deleted", "digest": digest("d")},
    {"event": "freed", "bytes": 3_400_000},
    {"event": "end", "ok": 1, "failed": 0},
]
NOTHING = [{"event": "freed", "bytes": 0}, {"event": "end", "ok": 0, "failed": 0}]


# --- rmi --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [["rmi"], ["image", "rm"], ["image", "remove"]])
def test_dockers_words_and_what_was_freed(api: Scripted, run: Run, verb: list[str]) -> None:
    api["POST /remove"] = EVENTS
    done = run(*verb, "alpine:3.20")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"Untagged: alpine:3.20\nDeleted: {digest('d')}\nFreed: 3.4MB\n"
    assert api.last.body == {"references": ["alpine:3.20"], "force": False, "platforms": [], "dry_run": False}


def test_what_it_asks_for(api: Scripted, run: Run) -> None:
    api["POST /remove"] = EVENTS
    run("rmi", "-f", "--platform", "linux/arm64", "a", "b")
    assert api.last.body == {"references": ["a", "b"], "force": True, "platforms": ["linux/arm64"], "dry_run": False}


def test_a_dry_run_says_would(api: Scripted, run: Run) -> None:
    api["POST /remove"] = EVENTS
    done = run("rmi", "--dry-run", "alpine:3.20")
    assert done.stdout == f"Would untag: alpine:3.20\nWould delete: {digest('d')}\nWould free: 3.4MB\n"
    assert api.last.body["dry_run"]


def test_part_of_a_batch(api: Scripted, run: Run) -> None:
    api["POST /remove"] = [failed("gone:1", "no such image: gone:1", 4), *EVENTS]
    done = run("rmi", "gone:1", "alpine:3.20")
    assert done.exit_code == 3
    assert done.stdout.startswith("Untagged: alpine:3.20\n")
    assert done.stderr == "mirror: 1 of 2 failed:\nmirror:   no such image: gone:1\n"


def test_the_only_one_that_fails(api: Scripted, run: Run) -> None:
    api["POST /remove"] = [
        failed("x", "x is pinned by me; remove it with -f", 1),
        {"event": "end", "ok": 0, "failed": 1},
    ]
    done = run("rmi", "x")
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "mirror: x is pinned by me; remove it with -f\n")


def test_nothing_to_do_says_nothing(api: Scripted, run: Run) -> None:
    api["POST /remove"] = NOTHING
    done = run("rmi", "-f", "gone")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


def test_names_are_needed(api: Scripted, run: Run) -> None:
    assert run("rmi").exit_code == 2
    assert api.requests == []


UNDER_WAY = "mirror: what was under way then may be done, too; the rest is as it was\n"


@pytest.mark.parametrize("verb", [["rmi", "x"], ["prune"]])
@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], f"Nothing was removed until then\n{UNDER_WAY}"),
        (EVENTS[:2], f"1 untagged and 1 deleted until then\n{UNDER_WAY}"),
        (
            [*EVENTS[:1], failed("y", "y is \x1bpinned", 1)],
            f"1 untagged and 0 deleted until then, 1 failed\n{UNDER_WAY}mirror:   y is \\x1bpinned\n",
        ),
    ],
)
def test_a_removal_that_is_interrupted_says_what_was_done(
    api: Scripted, run: Run, verb: list[str], events: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Any:
        yield from events
        raise KeyboardInterrupt

    monkeypatch.setattr(transport.Api, "stream", interrupted)
    done = run(*verb)
    assert (done.exit_code, done.stderr) == (130, f"mirror: interrupted. {said}")
    assert ("Untagged: alpine:3.20\n" in done.stdout) == bool(events)
    dry = run(*verb, "--dry-run")
    assert (dry.exit_code, dry.stderr) == (130, "mirror: interrupted. Nothing was removed\n")
    assert api.requests == []


def test_a_removal_that_breaks_off_says_what_was_done(api: Scripted, run: Run) -> None:
    api["POST /remove"] = [*EVENTS[:2], BREAK]
    done = run("rmi", "x")
    assert done.exit_code == 1
    assert ". 1 untagged and 1 deleted until then\nmirror: what was under way" in done.stderr


def test_nothing_was_removed_while_prune_still_asked(api: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> str:
        raise KeyboardInterrupt

    api["POST /prune"] = EVENTS
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.readline", interrupted, raising=False)
    done = run("prune", stdin="y\n")
    assert (done.exit_code, done.stdout) == (130, "")
    assert done.stderr.endswith("[y/N] mirror: interrupted. Nothing was removed\n")


# --- prune ------------------------------------------------------------------------------------------------

BODY: dict[str, Any] = {"until": None, "reference": [], "keep": None, "max_size": None, "all": False, "dry_run": False}


def test_prune_without_a_terminal_does_not_ask(api: Scripted, run: Run) -> None:
    api["POST /prune"] = EVENTS
    done = run("prune")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"Untagged: alpine:3.20\nDeleted: {digest('d')}\nTotal reclaimed space: 3.4MB\n"
    assert [request.body for request in api.requests] == [BODY]


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["-a", "--keep", "3"], {"all": True, "keep": 3}),
        (["--max-size", "20GB"], {"max_size": 20 * 10**9}),
        (["--filter", "reference=ghcr.io/*", "--filter", "reference=x"], {"reference": ["ghcr.io/*", "x"]}),
        (["--filter", "until=1700000000"], {"until": 1_700_000_000.0}),
        (["--filter", "until=1700000000", "--filter", "until=1600000000"], {"until": 1_600_000_000.0}),
    ],
)
def test_what_prune_asks_for(api: Scripted, run: Run, words: list[str], changed: dict[str, Any]) -> None:
    api["POST /prune"] = NOTHING
    done = run("prune", *words)
    assert (done.exit_code, done.stdout) == (0, "Total reclaimed space: 0B\n")
    assert api.last.body == {**BODY, **changed}


def test_what_prune_cannot_reach_is_said(api: Scripted, run: Run) -> None:
    api["POST /prune"] = [{"event": "beyond", "bytes": 7_610_000}, *EVENTS]
    done = run("prune", "--max-size", "1MB")
    assert done.stderr == (
        "7.61MB more than --max-size stay: they belong to what was pushed, is pinned or does not go now\n"
    )
    assert done.stdout.endswith("Total reclaimed space: 3.4MB\n")


def test_a_dry_run_of_prune(api: Scripted, run: Run) -> None:
    api["POST /prune"] = EVENTS
    done = run("prune", "--dry-run")
    assert done.stdout.splitlines() == [
        "Would untag: alpine:3.20",
        f"Would delete: {digest('d')}",
        "Total reclaimable space: 3.4MB",
    ]
    assert [request.body["dry_run"] for request in api.requests] == [True]


@pytest.mark.parametrize(
    ("answer", "dry_runs", "last"),
    [
        ("y\n", [True, False], "Total reclaimed space: 3.4MB"),
        ("YES\n", [True, False], "Total reclaimed space: 3.4MB"),
        ("n\n", [True], "Total reclaimed space: 0B"),
        ("", [True], "Total reclaimed space: 0B"),
    ],
)
def test_on_a_terminal_it_says_what_would_go_and_asks(
    api: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch, answer: str, dry_runs: list[bool], last: str
) -> None:
    api["POST /prune"] = EVENTS
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    done = run("prune", stdin=answer)
    assert [request.body["dry_run"] for request in api.requests] == dry_runs
    assert done.stdout.splitlines()[-1] == last
    assert done.stderr == (
        "WARNING! This will untag 1 and delete 1 images and layers, 3.4MB.\nAre you sure you want to continue? [y/N] "
    )


def test_forced_or_with_nothing_to_do_it_does_not_ask(api: Scripted, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    api["POST /prune"] = EVENTS
    assert run("prune", "-f").stderr == ""
    assert len(api.requests) == 1
    api["POST /prune"] = NOTHING
    done = run("prune")
    assert (done.stdout, done.stderr) == ("Total reclaimed space: 0B\n", "")


def test_a_prune_that_is_refused(api: Scripted, run: Run) -> None:
    api["POST /prune"] = refusal(403, "prune needs the right admin", 5)
    done = run("prune")
    assert (done.exit_code, done.stdout, done.stderr) == (5, "", "mirror: prune needs the right admin\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--filter", "until=soon"], "until='soon' is no time and no span; write 2025-01-31"),
        (["--filter", "label=x"], "there is no filter 'label'; there are until, reference"),
        (["--max-size", "big"], "'big' is no size; write it like 20GB"),
        (["--max-size", "1ib"], "'1ib' is no size"),
        (["--keep", "-1"], "not in the range"),
    ],
)
def test_what_prune_cannot_mean(api: Scripted, run: Run, words: list[str], says: str) -> None:
    done = run("prune", *words)
    assert (done.exit_code, api.requests) == (2, [])
    assert says in done.stderr


@pytest.mark.parametrize(
    ("text", "ago"),
    [("10d", 864_000), ("12h", 43_200), ("1h30m", 5400), ("1.5h", 5400), ("2w", 1_209_600), ("500ms", 0.5)],
)
def test_spans_before_now(text: str, ago: float) -> None:
    assert remove._moment(text) == pytest.approx(time.time() - ago, abs=5)


def test_moments() -> None:
    assert remove._moment("2025-01-31T10:00:00Z") == 1_738_317_600.0
    assert remove._moment("2025-01-31T11:00:00+01:00") == 1_738_317_600.0
    assert remove._moment("2025-01-31") == datetime(2025, 1, 31).timestamp()  # noqa: DTZ001 - this machine's zone
    for wrong in ("", "h", "10x", "-1h", "99999-01-01"):
        with pytest.raises(click.BadParameter):
            remove._moment(wrong)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1000000", 10**6),
        ("20GB", 20 * 10**9),
        ("1.5 MB", 1_500_000),
        ("512MiB", 512 << 20),
        ("1kib", 1024),
        ("2t", 2 * 10**12),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert remove._bytes(text) == count


def test_a_stream_answers_each_request(api: Scripted, run: Run) -> None:
    def by_request(request: Request) -> Any:
        return NOTHING if request.body["dry_run"] else EVENTS

    api["POST /prune"] = by_request
    assert run("prune", "--dry-run").stdout == "Total reclaimable space: 0B\n"
