"""`mirror df`, `verify`, `pin` and `unpin`: what the disk holds, whether it is sound, and what stays on it."""

from dataclasses import dataclass

import click

from mirror.cli import completion, local, options, output
from mirror.cli.batch import Batch
from mirror.cli.fields import Row, familiar, number, rows, size, text, texts
from mirror.cli.interrupted import telling
from mirror.cli.output import escape, human_size, note
from mirror.cli.progress import progress as shown_by
from mirror.cli.table import Field, View
from mirror.errors import DigestInvalid, MirrorError

_STATES = {
    "healed": "damaged, and fetched anew",
    "quarantined": "damaged, and taken out of use",
    "lost": "gone or damaged, and not replaced",
}


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Show each image, too.")
@options.form
@options.server
def df(*, verbose: bool, form: str, server: str | None) -> None:
    """Show what the mirror stores, and what sharing saves.

    LOGICAL is what images would take if each had its own copy, ON DISK what they take, SAVED the difference.
    RECLAIMABLE is what `mirror prune --all` frees. Sizes are stored, compressed bytes.
    """
    if verbose and form not in ("table", "json"):
        raise click.UsageError("--verbose goes with --format table and json only.")
    with local.with_server(server) as api:
        answer = api.get("/df", {"verbose": True if verbose else None})
    if verbose and form == "json":
        output.result_json(answer)
        return
    _df_view().show(rows(answer, "types"), form)
    if verbose:
        from mirror.cli.images import view

        output.result("\nImages space usage:\n")
        view().show(rows(answer, "images"), "table")


def _df_view() -> View:
    return View(
        [
            Field("Type", "TYPE", lambda row: text(row, "type")),
            Field("TotalCount", "TOTAL", lambda row: text(row, "total")),
            Field("Active", "ACTIVE", lambda row: text(row, "active")),
            Field("Logical", "LOGICAL", lambda row: size(row, "logical")),
            Field("Size", "ON DISK", lambda row: size(row, "on_disk")),
            Field("Saved", "SAVED", lambda row: size(row, "saved")),
            Field("Reclaimable", "RECLAIMABLE", _reclaimable),
        ],
        ["Type", "TotalCount", "Active", "Logical", "Size", "Saved", "Reclaimable"],
    )


def _reclaimable(row: Row) -> str:
    """Docker's `1.2GB (45%)`."""
    freed, whole = number(row, "reclaimable"), number(row, "on_disk")
    share = f" ({freed * 100 / whole:.0f}%)" if freed is not None and whole else ""
    return size(row, "reclaimable") + share


@click.command()
@click.argument("references", nargs=-1, metavar="[REF...]", shell_complete=completion.held)
@click.option("--repair", is_flag=True, help="Fetch what is damaged anew, where a registry still has it.")
@options.progress
@options.server
def verify(*, references: tuple[str, ...], repair: bool, progress: str, server: str | None) -> None:
    """Read everything that is stored and compare it with its digest.

    With REF only what belongs to these images. What is damaged is taken out of use, so that no client gets it; with
    --repair it is fetched anew. Exits 7 where something is damaged and was not healed, whatever else failed.
    """
    batch, found = Batch(len(references) or 1), _Damage()
    with local.with_server(server) as api:
        with telling(lambda: f"{found.read()} until then"), shown_by(progress, "verifying") as shown:
            for event in api.stream("/verify", {"repair": repair, "references": list(references)}):
                shown.take(event)
                if not batch.take(event):
                    line = found.take(event)
                    if line:
                        shown.result(line)
        note(found.read())
    damage, missing = found.error(repair=repair), batch.error()
    if damage and missing:
        raise DigestInvalid(f"{damage.message}\n{missing.message}")
    error = damage or missing
    if error is not None:
        raise error


@dataclass(slots=True)
class _Damage:
    """What was read, and what of it was not sound."""

    blobs: float = 0
    bytes: float = 0
    healed: int = 0
    bad: int = 0
    unknown: str = ""

    def take(self, event: Row) -> str | None:
        """The line on a damaged blob."""
        match event.get("event"):
            case "progress":
                self.blobs, self.bytes = number(event, "done") or 0, number(event, "bytes") or 0
            case "bad":
                return self._bad(event)
            case "unknown":
                what = "that belonged to nothing removed" if event.get("removed") else "belong to nothing"
                self.unknown = f"; {number(event, 'files') or 0:,.0f} files ({size(event, 'bytes')}) {what}"
            case _:
                pass
        return None

    def _bad(self, event: Row) -> str:
        state = text(event, "state")
        if state == "healed":
            self.healed += 1
        else:
            self.bad += 1
        names = ", ".join(familiar(name) for name in texts(event, "names")) or "no image"
        return escape(f"{text(event, 'digest')}: {_STATES.get(state, state)} ({names})")

    def read(self) -> str:
        return f"{self.blobs:,.0f} blobs verified, {human_size(self.bytes)}{self.unknown}"

    def error(self, *, repair: bool) -> MirrorError | None:
        """What it fails with where damage is left."""
        if not self.bad:
            return None
        what = "pull their images again once their registry has them" if repair else "run mirror verify --repair"
        return DigestInvalid(f"{self.bad} damaged, {self.healed} healed: {what}")


@click.command()
@click.argument("references", nargs=-1, metavar="[REF...]", shell_complete=completion.held)
@click.option("--owner", metavar="NAME", help="Who keeps them; what several keep stays until the last one lets go.")
@options.form
@options.server
def pin(*, references: tuple[str, ...], owner: str | None, form: str, server: str | None) -> None:
    """Keep images: neither eviction nor prune removes them.

    Without REF: list what is pinned.
    """
    with local.with_server(server) as api:
        if references:
            body: dict[str, object] = {"references": list(references)}
            api.call("POST", "/pins", body if owner is None else {**body, "owner": owner})
            return
        found = rows(api.get("/pins"), "pins")
    view = View(
        [
            Field("Reference", "REFERENCE", lambda row: familiar(text(row, "name") or text(row, "reference"))),
            Field("Owner", "OWNER", lambda row: text(row, "owner")),
        ],
        ["Reference", "Owner"],
    )
    view.show(found, form)


@click.command()
@click.argument("references", nargs=-1, required=True, metavar="REF...", shell_complete=completion.held)
@click.option("--owner", metavar="NAME", help="Whose pin it is.")
@options.server
def unpin(*, references: tuple[str, ...], owner: str | None, server: str | None) -> None:
    """Let go of images that were pinned.

    They stay until room is needed, or until `mirror rmi`.
    """
    batch = Batch(len(references))
    with local.with_server(server) as api:
        for reference in references:
            try:
                api.call("DELETE", "/pins", query={"ref": reference, "owner": owner})
            except MirrorError as error:
                batch.add(reference, error)
    batch.end()
