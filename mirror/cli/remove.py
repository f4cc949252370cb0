"""`mirror rmi` and `mirror prune`: names go, and what nothing needs any more goes with them. No registry is asked."""

import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import click

from mirror.cli import completion, local, options, output
from mirror.cli.batch import Batch
from mirror.cli.fields import Row, familiar, number, text
from mirror.cli.interrupted import telling
from mirror.cli.output import escape, human_size, note
from mirror.cli.transport import Api

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


@click.command()
@click.argument("references", nargs=-1, required=True, metavar="REF...", shell_complete=completion.held)
@click.option("-f", "--force", is_flag=True, help="Also what is pinned, all tags of an ID, and what is not there.")
@click.option("--platform", "platforms", multiple=True, metavar="P", help="Only this platform's image.")
@options.dry_run
@options.server
def rmi(
    *, references: tuple[str, ...], force: bool, platforms: tuple[str, ...], dry_run: bool, server: str | None
) -> None:
    """Remove images from the mirror, never from a registry.

    A tag is only untagged; bytes go when nothing refers to them. An ID with several tags, and what is pinned, needs
    -f; with -f what is not there is no failure.
    """
    body = {
        "references": list(references),
        "force": force,
        "platforms": options.split(platforms),
        "dry_run": dry_run,
    }
    batch = Batch(len(references))
    lines = _Lines(dry_run=dry_run)
    with local.with_server(server) as api:
        with telling(lambda: lines.until(batch)):
            _take(api.stream("/remove", body), batch, lines)
        if lines.removed:
            output.result(f"{'Would free' if dry_run else 'Freed'}: {human_size(lines.freed)}")
    batch.end()


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also tagged images, unless pinned or pushed here.")
@click.option("--filter", "filters", multiple=True, metavar="F", help="until=TIME or SPAN (10d, 12h), reference=GLOB.")
@click.option("--keep", type=click.IntRange(0), metavar="N", help="Keep the newest N tags of each repository.")
@click.option("--max-size", metavar="SIZE", help="Remove the least recently used until this much is left, as in 20GB.")
@click.option("-f", "--force", is_flag=True, help="Do not ask first.")
@options.dry_run
@options.server
def prune(
    *,
    everything: bool,
    filters: tuple[str, ...],
    keep: int | None,
    max_size: str | None,
    force: bool,
    dry_run: bool,
    server: str | None,
) -> None:
    """Remove unused images and layers.

    Without options: images without a tag, and layers that belong to no image. Never what is pinned or was pushed
    here. On a terminal it says what would go and asks first.
    """
    chosen = options.pairs(filters, ("until", "reference"))
    until = [_moment(value) for key, value in chosen if key == "until"]
    body: dict[str, object] = {
        "until": min(until) if until else None,
        "reference": [value for key, value in chosen if key == "reference"],
        "keep": keep,
        "max_size": None if max_size is None else _bytes(max_size),
        "all": everything,
    }
    batch, lines = Batch(1), _Lines(dry_run=dry_run)
    with local.with_server(server) as api:
        if not dry_run and not force and sys.stdin.isatty() and not _confirmed(api, body):
            return
        with telling(lambda: lines.until(batch)):
            _take(api.stream("/prune", {**body, "dry_run": dry_run}), batch, lines)
        word = "Total reclaimable space" if dry_run else "Total reclaimed space"
        output.result(f"{word}: {human_size(lines.freed)}")
    batch.end()


def _take(events: Iterable[Row], batch: Batch, lines: "_Lines") -> None:
    for event in events:
        if not batch.take(event):
            lines.take(event)


def _confirmed(api: Api, body: dict[str, object]) -> bool:
    """Whether a person at the terminal, told what would go, says yes."""
    with telling(lambda: "Nothing was removed"):
        return _asked(api, body)


def _asked(api: Api, body: dict[str, object]) -> bool:
    foreseen = _Lines(dry_run=True, silent=True)
    _take(api.stream("/prune", {**body, "dry_run": True}), Batch(1), foreseen)
    if not foreseen.removed and not foreseen.freed:
        return True  # then it says that there was nothing
    note(
        f"WARNING! This will untag {foreseen.untagged} and delete {foreseen.deleted} images and layers,"
        f" {human_size(foreseen.freed)}."
    )
    click.echo("Are you sure you want to continue? [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    output.result("Total reclaimed space: 0B")
    return False


@dataclass(slots=True)
class _Lines:
    """Docker's lines on what goes, as it goes."""

    dry_run: bool
    silent: bool = False
    untagged: int = 0
    deleted: int = 0
    freed: float = 0

    @property
    def removed(self) -> bool:
        return self.untagged + self.deleted > 0

    def until(self, batch: Batch) -> str:
        """What a removal that ends early has done. What it was at may be done, too: nobody was there to be told."""
        if self.dry_run:
            return "Nothing was removed"
        done = f"{self.untagged} untagged and {self.deleted} deleted" if self.removed else "Nothing was removed"
        failed = f", {len(batch.failed)} failed" if batch.failed else ""
        rest = "what was under way then may be done, too; the rest is as it was"
        return "\n".join([f"{done} until then{failed}", rest, *map(escape, batch.lines())])

    def take(self, event: Row) -> None:
        match event.get("event"):
            case "untagged":
                self.untagged += 1
                self._say("Would untag" if self.dry_run else "Untagged", familiar(text(event, "name")))
            case "deleted":
                self.deleted += 1
                self._say("Would delete" if self.dry_run else "Deleted", text(event, "digest"))
            case "freed":
                self.freed += number(event, "bytes") or 0
            case "beyond" if not self.silent:
                more = human_size(number(event, "bytes") or 0)
                note(f"{more} more than --max-size stay: they belong to what was pushed, is pinned or does not go now")
            case _:
                pass

    def _say(self, word: str, what: str) -> None:
        if not self.silent:
            output.result(f"{word}: {escape(what)}")


def _moment(value: str) -> float:
    """Wall seconds of a time, or of a span before now: `2025-01-31`, `2025-01-31T10:00:00Z`, `10d`, `1h30m`, seconds
    since 1970."""
    spans = _SPAN.findall(value)
    if spans and "".join(number + unit for number, unit in spans) == value:
        return time.time() - sum(float(count) * _SECONDS[unit] for count, unit in spans)
    if value.isdigit():
        return float(value)
    try:
        return datetime.fromisoformat(value).timestamp()  # without a zone it is this machine's, as in docker
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"until={value!r} is no time and no span; write 2025-01-31, 2025-01-31T10:00:00Z, 10d, 12h or 1h30m",
            param_hint="'--filter'",
        ) from None


def _bytes(value: str) -> int:
    """Bytes, in docker's decimal units or with an i (GiB) in binary ones."""
    match = _SIZE.fullmatch(value.strip())
    if match is None or (match[3] and not match[2]):
        raise click.BadParameter(
            f"{value!r} is no size; write it like 20GB, 512MiB or 1000000", param_hint="'--max-size'"
        )
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].lower()])
