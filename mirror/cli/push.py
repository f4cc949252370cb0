"""`mirror push`: images that are held to a registry, which gets only what it lacks."""

from dataclasses import dataclass, field

import click

from mirror.cli import completion, local, names, options, output
from mirror.cli.batch import Batch
from mirror.cli.fields import Row, familiar, number, repository_of, short, size, split_name, text
from mirror.cli.interrupted import telling
from mirror.cli.output import escape, human_size, note
from mirror.cli.progress import Progress, progress

_WORDS = {"exists": "Layer already exists", "pushed": "Pushed", "skipped": "Skipped foreign layer"}


@click.command()
@click.argument("references", nargs=-1, required=True, metavar="REF...", shell_complete=completion.held)
@click.option("-a", "--all-tags", is_flag=True, help="Push every tag of the repository that is held.")
@click.option("--to", metavar="HOST/PREFIX", help="Where to, as in ghcr.io/me.  [default: where its name says]")
@click.option("--platform", metavar="P", help="Only this platform's image, as in linux/arm64.")
@click.option("-j", "--jobs", type=click.IntRange(1, 64), default=3, show_default=True, help="Images at a time.")
@options.dry_run
@options.quiet("the final references")
@options.progress
@options.server
def push(
    *,
    references: tuple[str, ...],
    all_tags: bool,
    to: str | None,
    platform: str | None,
    jobs: int,
    dry_run: bool,
    quiet: bool,
    progress: str,
    server: str | None,
) -> None:
    """Send images to a registry, which gets only what it lacks.

    What is held goes to its own registry under its own name; with --to ghcr.io/me, team/app:1 becomes
    ghcr.io/me/team/app:1. A layer that the registry has costs one question, one that it has elsewhere is mounted from
    there, and what was cut off goes on where it was. The login is the mirror's: mirror login REGISTRY.

    Of an image for several platforms what is not held is fetched from its registry first.
    """
    asked = list(references)
    if all_tags and any(names.tagged(name) for name in asked):
        raise click.UsageError("tag can't be used with --all-tags/-a")
    if not all_tags and not quiet:
        names.remark_default_tags(asked)
    body: dict[str, object] = {
        "references": asked,
        "to": to,
        "platform": platform,
        "all_tags": all_tags,
        "dry_run": dry_run,
        "jobs": jobs,
    }
    _run(body, Batch(len(asked)), mode="none" if quiet and progress == "auto" else progress, quiet=quiet, server=server)


def _run(body: dict[str, object], batch: Batch, *, mode: str, quiet: bool, server: str | None) -> None:
    plan = _Plan()
    with local.with_server(server) as api:
        shown = progress(mode, "pushing")
        results = _Results(shown, quiet=quiet, at_once=batch.asked == 1 and not body["all_tags"])
        with telling(lambda: _until(body, batch, results)), shown:
            for event in api.stream("/push", body):
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
    """What a push that ends early has done."""
    if body["dry_run"]:
        return "Nothing was pushed"
    count, asked = results.pushed, max(batch.asked, batch.seen)
    of = "" if body["all_tags"] or asked == 1 else f" of {asked}"
    failed = f", {len(batch.failed)} failed" if batch.failed else ""
    lines = [f"{count or 'No'} image{'s' if count > 1 else ''}{of} pushed until then{failed}"]
    if results.unfinished:
        lines.append("what was sent beside is there; the next push goes on from there")
    return "\n".join([*lines, *map(escape, batch.lines())])


@dataclass(slots=True)
class _Results:
    """Docker's lines for each image. Those of one image stay together: where several are pushed at the same time,
    they are printed when it is there."""

    shown: Progress
    quiet: bool
    at_once: bool
    waiting: dict[str, list[str]] = field(default_factory=dict)
    said: set[tuple[str, str]] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)
    pushed: int = 0
    unfinished: set[str] = field(default_factory=set)  # images of which something was sent

    def take(self, event: Row) -> None:
        match event.get("event"):
            case "layer":
                self._layer(event)
            case "pushed":
                self._pushed(event)
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
        if state in ("pushing", "pushed"):
            self.unfinished.add(name)
        word = _mounted(event) if state == "mounted" else _WORDS.get(state)
        if word is None or (name, digest) in self.said:
            return
        self.said.add((name, digest))
        self._say(name, f"{escape(short(digest))}: {word}")

    def _pushed(self, event: Row) -> None:
        name, target = text(event, "name"), text(event, "target")
        self.pushed += 1
        self.unfinished.discard(name)
        if self.quiet:
            self.shown.result(escape(target))
            return
        if not self.at_once:
            self.shown.result(escape(f"The push refers to repository [{repository_of(target)}]"))
        tag = split_name(target)[1] if ":" in target.rpartition("/")[2].partition("@")[0] else ""
        named = f"{tag}: " if tag else ""
        self._say(name, escape(f"{named}digest: {text(event, 'digest')} size: {number(event, 'size') or 0:.0f}"))
        self._say(name, _sent(event))
        for line in self.waiting.pop(name, []):
            self.shown.result(line)

    def _say(self, name: str, line: str) -> None:
        if self.quiet:
            return
        if self.at_once:
            self.shown.result(line)
        else:
            self.waiting.setdefault(name, []).append(line)


def _mounted(event: Row) -> str:
    """Docker's word, with the name as far as it is told: without its registry."""
    origin = text(event, "mounted_from")
    return f"Mounted from {escape(origin.partition('/')[2] or origin)}" if origin else "Mounted"


def _sent(event: Row) -> str:
    layers = number(event, "layers") or 0
    return (
        f"sent {number(event, 'sent_layers') or 0:.0f} of {layers:.0f} layer{'' if layers == 1 else 's'},"
        f" {human_size(number(event, 'sent_bytes') or 0)} of {human_size(number(event, 'bytes') or 0)}"
    )


@dataclass(slots=True)
class _Plan:
    """What a dry run found."""

    rows: list[Row] = field(default_factory=list)

    def take(self, event: Row) -> None:
        if event.get("event") == "plan":
            self.rows.append(event)

    def show(self, *, quiet: bool) -> None:
        if quiet:
            output.result("\n".join(escape(text(row, "target")) for row in self.rows)) if self.rows else None
            return
        cells = [
            [
                familiar(text(row, "name")),
                text(row, "target"),
                f"{number(row, 'send_layers') or 0:.0f} of {number(row, 'layers') or 0:.0f}",
                size(row, "send_bytes"),
                size(row, "fetch_bytes"),
            ]
            for row in self.rows
        ]
        output.result(output.table(["IMAGE", "TO", "LAYERS", "TO SEND", "TO FETCH"], cells))
        send = sum(number(row, "send_bytes") or 0 for row in self.rows)
        note(f"Nothing was pushed: {human_size(send)} would be sent at most, less where layers are shared or mounted")
