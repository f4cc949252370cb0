"""What `pull` and `push` show alike: docker's lines for each image, how far it came, a dry run's plan."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from mirror.cli import local, output
from mirror.cli.batch import Batch
from mirror.cli.fields import Row, familiar, short, text
from mirror.cli.interrupted import telling
from mirror.cli.output import escape, note
from mirror.cli.progress import Progress, progress


@dataclass(slots=True)
class Results(ABC):
    """Docker's lines for each image. Those of one image stay together: where several are on their way at the same time,
    they are printed when it is done."""

    done: ClassVar[str]  # the event that ends an image, and the word for it
    moving: ClassVar[frozenset[str]]  # the states of a layer of which something has crossed the wire
    kept: ClassVar[str]  # what becomes of an image that was begun

    shown: Progress
    quiet: bool
    at_once: bool
    count: int = 0
    waiting: dict[str, list[str]] = field(default_factory=dict)
    said: set[tuple[str, str]] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)
    unfinished: set[str] = field(default_factory=set)  # images of which something has crossed the wire

    @abstractmethod
    def word(self, event: Row) -> str | None:
        """What is said of a layer in this state, if anything."""

    @abstractmethod
    def ended(self, name: str, event: Row) -> str | None:
        """Say that an image is done. Returns the line that comes last, also where the rest is quiet."""

    def take(self, event: Row) -> None:
        """One event of the stream."""
        kind = event.get("event")
        if kind == "layer":
            self._layer(event)
        elif kind == self.done:
            name = text(event, "name")
            self.count += 1
            self.unfinished.discard(name)
            last = self.ended(name, event)
            for line in [*self.waiting.pop(name, []), *([] if last is None else [last])]:
                self.shown.result(line)
        elif kind == "note":
            self.remarks.append(escape(f"{familiar(text(event, 'name'))}: {text(event, 'message')}"))

    def say(self, name: str, line: str) -> None:
        """A line about an image, escaped already."""
        if self.quiet:
            return
        if self.at_once:
            self.shown.result(line)
        else:
            self.waiting.setdefault(name, []).append(line)

    def remark(self) -> None:
        """What there was to know beside; once nothing is drawn any more."""
        for line in self.remarks:
            note(line)

    def _layer(self, event: Row) -> None:
        name, digest = text(event, "name"), text(event, "digest")
        if text(event, "state") in self.moving:
            self.unfinished.add(name)
        word = self.word(event)
        if word is None or (name, digest) in self.said:
            return
        self.said.add((name, digest))
        self.say(name, f"{escape(short(digest))}: {word}")


@dataclass(slots=True)
class Plan(ABC):
    """What a dry run found."""

    name: ClassVar[str]  # the field that `--quiet` prints

    rows: list[Row] = field(default_factory=list)

    @abstractmethod
    def table(self) -> str:
        """All of it."""

    @abstractmethod
    def summary(self) -> str:
        """A sentence on what would have crossed the wire."""

    def take(self, event: Row) -> None:
        """One event of the stream."""
        if event.get("event") == "plan":
            self.rows.append(event)

    def show(self, *, quiet: bool) -> None:
        """Print it."""
        if not quiet:
            output.result(self.table())
            note(self.summary())
        elif self.rows:
            output.result("\n".join(escape(text(row, self.name)) for row in self.rows))


def run(
    path: str,
    body: dict[str, object],
    results: type[Results],
    plan: Plan,
    *,
    doing: str,
    mode: str,
    quiet: bool,
    server: str | None,
) -> None:
    """Ask for it at `path` and show how it goes on. Raises what failed, at the end."""
    batch = Batch(len(body["references"]) if isinstance(body["references"], list) else 0)
    with local.with_server(server) as api:
        shown = progress("none" if quiet and mode == "auto" else mode, doing)
        told = results(shown, quiet, batch.asked == 1 and not body["all_tags"])
        with telling(lambda: _until(body, batch, told)), shown:
            for event in api.stream(path, body):
                shown.take(event)
                if not batch.take(event):
                    told.take(event)
                    plan.take(event)
        if not quiet:
            told.remark()
        if body["dry_run"]:
            plan.show(quiet=quiet)
    batch.end()


def _until(body: dict[str, object], batch: Batch, results: Results) -> str:
    """What was done until it ended early."""
    if body["dry_run"]:
        return f"Nothing was {results.done}"
    count, asked = results.count, max(batch.asked, batch.seen)
    of = "" if body["all_tags"] or asked == 1 else f" of {asked}"
    failed = f", {len(batch.failed)} failed" if batch.failed else ""
    lines = [f"{count or 'No'} image{'s' if count > 1 else ''}{of} {results.done} until then{failed}"]
    if results.unfinished:
        lines.append(results.kept)
    return "\n".join([*lines, *map(escape, batch.lines())])
