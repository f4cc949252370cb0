"""`mirror push`: images that are held to a registry, which gets only what it lacks."""

import click

from mirror.cli import completion, names, options, output, transfers
from mirror.cli.fields import Row, familiar, number, repository_of, size, split_name, text
from mirror.cli.output import escape, human_size

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
    transfers.run("/push", body, _Results, _Plan(), doing="pushing", mode=progress, quiet=quiet, server=server)


class _Results(transfers.Results):
    """Docker's lines for each image that is pushed, and what of it was sent."""

    done = "pushed"
    moving = frozenset({"pushing", "pushed"})
    kept = "what was sent beside is there; the next push goes on from there"

    def word(self, event: Row) -> str | None:
        state = text(event, "state")
        return _mounted(event) if state == "mounted" else _WORDS.get(state)

    def ended(self, name: str, event: Row) -> str | None:
        target = text(event, "target")
        if self.quiet:
            return escape(target)
        if not self.at_once:
            self.shown.result(escape(f"The push refers to repository [{repository_of(target)}]"))
        tag = split_name(target)[1] if ":" in target.rpartition("/")[2].partition("@")[0] else ""
        named = f"{tag}: " if tag else ""
        self.say(name, escape(f"{named}digest: {text(event, 'digest')} size: {number(event, 'size') or 0:.0f}"))
        self.say(name, _sent(event))
        return None


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


class _Plan(transfers.Plan):
    """What a dry run found."""

    name = "target"

    def table(self) -> str:
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
        return output.table(["IMAGE", "TO", "LAYERS", "TO SEND", "TO FETCH"], cells)

    def summary(self) -> str:
        send = sum(number(row, "send_bytes") or 0 for row in self.rows)
        return f"Nothing was pushed: {human_size(send)} would be sent at most, less where layers are shared or mounted"
