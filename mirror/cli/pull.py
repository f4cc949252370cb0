"""`mirror pull`: images into the mirror, through the same downloads that everybody else follows."""

from collections.abc import Iterator
from typing import TextIO

import click

from mirror.cli import completion, names, options, output, transfers
from mirror.cli.fields import Row, familiar, number, size, text
from mirror.cli.output import escape, human_size

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
    transfers.run("/pull", body, _Results, _Plan(), doing="pulling", mode=progress, quiet=quiet, server=server)


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


class _Results(transfers.Results):
    """Docker's lines for each image that is pulled; its canonical reference comes last."""

    done = "pulled"
    moving = frozenset({"downloading", "complete"})
    kept = "what was downloaded beside is kept; the next pull goes on from there"

    def word(self, event: Row) -> str | None:
        return _WORDS.get(text(event, "state"))

    def ended(self, name: str, event: Row) -> str:
        word = "Image is up to date for" if event.get("status") == "up_to_date" else "Downloaded newer image for"
        self.say(name, f"Digest: {escape(text(event, 'digest'))}")
        self.say(name, f"Status: {word} {escape(familiar(name))}")
        return escape(name)


class _Plan(transfers.Plan):
    """What a dry run found."""

    name = "name"

    def table(self) -> str:
        cells = [[text(row, "name"), size(row, "fetch_bytes"), size(row, "held_bytes")] for row in self.rows]
        return output.table(["IMAGE", "TO FETCH", "HELD"], cells)

    def summary(self) -> str:
        fetch = sum(number(row, "fetch_bytes") or 0 for row in self.rows)
        return f"Nothing was pulled: {human_size(fetch)} would be fetched at most, less where images share layers"
