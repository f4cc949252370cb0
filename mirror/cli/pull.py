"""`mirror pull`: images into the mirror, through the same downloads that everybody else follows."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

import click

from mirror.cli import completion, local, names, options, output
from mirror.cli.batch import Batch
from mirror.cli.fields import Row, familiar, number, short, size, text
from mirror.cli.interrupted import telling
from mirror.cli.output import escape, human_size, note
from mirror.cli.progress import Progress, progress

_WORDS = {"exists": "Already exists", "complete": "Pull complete"}


@click.command()
@click.argument("references", nargs=-1, metavar="REF...", shell_complete=completion.held)
@click.option("-a", "--all-tags", is_flag=True, help="Pull every tag of the repository.")
@click.option("--platform", "platforms", multiple=True, metavar="P,P|all", help="Platforms, as in linux/arm64; or all.")
@click.option("-j", "--jobs", type=click.IntRange(1, 64), default=3, show_default=True, help="Images at a time.")
@click.option(
    "-f", "--file", type=click.File(encoding="utf-8"), metavar="FILE", help="Read names from FILE, - for stdin."
)
@click.option("--if-missing", is_flag=True, help="Ask no registry about what is held already.")
@click.option("--pin", is_flag=True, help="Keep them: no eviction, no prune.")
@options.dry_run
@options.quiet("the final references")
@options.progress
@options.server
def pull(
    *,
    references: tuple[str, ...],
    all_tags: bool,
    platforms: tuple[str, ...],
    jobs: int,
    file: TextIO | None,
    if_missing: bool,
    pin: bool,
    dry_run: bool,
    quiet: bool,
    progress: str,
    server: str | None,
) -> None:
    """Download images from their registries into the mirror.

    A tag is asked for at its registry even where it is held, unless --if-missing. One image that fails does not stop
    the others. What an interrupted pull has downloaded is kept, and the next one goes on from there.

    The last line for each image is its canonical reference.
    """
    asked = [*references, *(_listed(file) if file else [])]
    _check(asked, all_tags=all_tags)
    if not all_tags and not quiet:
        names.remark_default_tags(asked)
    body = {
        "references": asked,
        "platforms": options.split(platforms),
        "all_tags": all_tags,
        "if_missing": if_missing,
        "pin": pin,
        "dry_run": dry_run,
        "jobs": jobs,
    }
    _run(body, Batch(len(asked)), mode="none" if quiet and progress == "auto" else progress, quiet=quiet, server=server)


def _listed(file: TextIO) -> Iterator[str]:
    """Names, one a line; `#` begins a remark."""
    try:
        for line in file:
            name = line.partition("#")[0].strip()
            if name:
                yield name
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{file.name} is no text: {error.reason}", param_hint="'--file'") from error


def _check(asked: list[str], *, all_tags: bool) -> None:
    if not asked:
        raise click.UsageError("Name an image to pull, or a file of names with -f.")
    if all_tags and any(names.tagged(name) for name in asked):
        raise click.UsageError("A tag can't be used with --all-tags/-a.")


def _run(body: dict[str, object], batch: Batch, *, mode: str, quiet: bool, server: str | None) -> None:
    plan = _Plan()
    with local.with_server(server) as api:
        shown = progress(mode, "pulling")
        results = _Results(shown, quiet=quiet, at_once=batch.asked == 1 and not body["all_tags"])
        with telling(lambda: _until(body, batch, results)), shown:
            for event in api.stream("/pull", body):
                shown.take(event)
                if not batch.take(event):
                    results.take(event)
                    plan.take(event)
        if not quiet:
            results.remark()
        if body["dry_run"]:
            plan.show(quiet=quiet)
    batch.end()


def _until(body: dict[str, object], batch: Batch, results: "_Results") -> str:
    """What a pull that ends early has done."""
    if body["dry_run"]:
        return "Nothing was pulled"
    count, asked = results.pulled, max(batch.asked, batch.seen)
    of = "" if body["all_tags"] or asked == 1 else f" of {asked}"
    failed = f", {len(batch.failed)} failed" if batch.failed else ""
    lines = [f"{count or 'No'} image{'s' if count > 1 else ''}{of} pulled until then{failed}"]
    if results.unfinished:
        lines.append("what was downloaded beside is kept; the next pull goes on from there")
    return "\n".join([*lines, *map(escape, batch.lines())])


@dataclass(slots=True)
class _Results:
    """Docker's lines for each image. Those of one image stay together: where several are pulled at the same time,
    they are printed when it is there."""

    shown: Progress
    quiet: bool
    at_once: bool
    waiting: dict[str, list[str]] = field(default_factory=dict)
    said: set[tuple[str, str]] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)
    pulled: int = 0
    unfinished: set[str] = field(default_factory=set)  # images of which something was downloaded

    def take(self, event: Row) -> None:
        match event.get("event"):
            case "layer":
                self._layer(event)
            case "pulled":
                self._pulled(event)
            case "note":
                self.remarks.append(escape(f"{familiar(text(event, 'name'))}: {text(event, 'message')}"))
            case _:
                pass

    def remark(self) -> None:
        """What there was to know beside; once nothing is drawn any more."""
        for line in self.remarks:
            note(line)

    def _layer(self, event: Row) -> None:
        name, digest, state = text(event, "name"), text(event, "digest"), text(event, "state")
        if state in ("downloading", "complete"):
            self.unfinished.add(name)
        word = _WORDS.get(state)
        if word is None or (name, digest) in self.said:
            return
        self.said.add((name, digest))
        self._say(name, f"{escape(short(digest))}: {word}")

    def _pulled(self, event: Row) -> None:
        name = text(event, "name")
        self.pulled += 1
        self.unfinished.discard(name)
        word = "Image is up to date for" if event.get("status") == "up_to_date" else "Downloaded newer image for"
        self._say(name, f"Digest: {escape(text(event, 'digest'))}")
        self._say(name, f"Status: {word} {escape(familiar(name))}")
        for line in [*self.waiting.pop(name, []), escape(name)]:
            self.shown.result(line)

    def _say(self, name: str, line: str) -> None:
        if self.quiet:
            return
        if self.at_once:
            self.shown.result(line)
        else:
            self.waiting.setdefault(name, []).append(line)


@dataclass(slots=True)
class _Plan:
    """What a dry run found."""

    rows: list[Row] = field(default_factory=list)

    def take(self, event: Row) -> None:
        if event.get("event") == "plan":
            self.rows.append(event)

    def show(self, *, quiet: bool) -> None:
        if quiet:
            output.result("\n".join(escape(text(row, "name")) for row in self.rows)) if self.rows else None
            return
        cells = [[text(row, "name"), size(row, "fetch_bytes"), size(row, "held_bytes")] for row in self.rows]
        output.result(output.table(["IMAGE", "TO FETCH", "HELD"], cells))
        fetch = sum(number(row, "fetch_bytes") or 0 for row in self.rows)
        note(f"Nothing was pulled: {human_size(fetch)} would be fetched at most, less where images share layers")
