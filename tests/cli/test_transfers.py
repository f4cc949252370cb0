"""What the two verbs have in common, by itself; what each prints is in `test_pull` and `test_push`."""

from dataclasses import dataclass, field
from typing import cast

import pytest

from mirror.cli import transfers
from mirror.cli.fields import Row, text
from mirror.cli.progress import Progress
from tests.cli.samples import digest


@dataclass
class Shown:
    """What was printed."""

    lines: list[str] = field(default_factory=list)

    def result(self, line: str) -> None:
        self.lines.append(line)


class Sent(transfers.Results):
    done = "sent"
    moving = frozenset({"going"})
    kept = "it goes on from there"

    def word(self, event: Row) -> str | None:
        return {"gone": "Gone"}.get(text(event, "state"))

    def ended(self, name: str, event: Row) -> str | None:
        self.say(name, f"Done: {name}")
        return name if event.get("last") else None


class Plan(transfers.Plan):
    name = "name"

    def table(self) -> str:
        return f"{len(self.rows)} rows"

    def summary(self) -> str:
        return "a summary"


def layer(name: str, letter: str, state: str) -> Row:
    return {"event": "layer", "name": name, "digest": digest(letter), "state": state}


def sent(*, quiet: bool = False, at_once: bool = False) -> tuple[Sent, list[str]]:
    shown = Shown()
    return Sent(cast("Progress", shown), quiet, at_once), shown.lines


def test_lines_of_one_image_stay_together() -> None:
    results, lines = sent()
    for name in ("x", "y"):
        results.take(layer(name, "a", "gone"))
    assert lines == []
    results.take({"event": "sent", "name": "y", "last": True})
    assert lines == ["aaaaaaaaaaaa: Gone", "Done: y", "y"]
    assert results.count == 1


def test_of_a_single_one_each_is_there_at_once_and_once() -> None:
    results, lines = sent(at_once=True)
    for state in ("going", "gone", "gone"):
        results.take(layer("x", "a", state))
    assert lines == ["aaaaaaaaaaaa: Gone"]
    assert results.unfinished == {"x"}
    results.take({"event": "sent", "name": "x"})
    assert lines == ["aaaaaaaaaaaa: Gone", "Done: x"]
    assert results.unfinished == set()


def test_quiet_prints_the_last_line_alone() -> None:
    results, lines = sent(quiet=True)
    results.take(layer("x", "a", "gone"))
    results.take({"event": "sent", "name": "x", "last": True})
    assert lines == ["x"]


def test_what_it_does_not_know_is_passed_over() -> None:
    results, lines = sent(at_once=True)
    for event in ({}, {"event": "something new"}, {"event": "end", "ok": 1}, {"event": "layer"}):
        results.take(event)
    assert (lines, results.count) == ([], 0)


def test_a_plan_is_a_table_or_names(capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan()
    plan.show(quiet=True)
    assert capsys.readouterr().out == ""
    for name in ("x", "y\x1b"):
        plan.take({"event": "plan", "name": name})
    plan.take({"event": "end"})
    plan.show(quiet=True)
    assert capsys.readouterr().out.splitlines() == ["x", "y\\x1b"]
    plan.show(quiet=False)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("2 rows\n", "a summary\n")
