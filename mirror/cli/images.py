"""`mirror images`: what is held, in docker's columns, and two more: UNIQUE and LAST PULLED."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from mirror.cli import completion, local, names, options, output
from mirror.cli.fields import NONE, NOT_KNOWN, NOTHING, Row, ago, instant, listed, number, row, rows, short, size, text
from mirror.cli.output import escape, human_size, note
from mirror.cli.table import Field, View
from mirror.cli.transport import Api, Query

_FILTERS = ("dangling", "label", "before", "since", "reference", "until")
_COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "HeldSize", "UniqueSize", "LastPulled")


@click.command()
@click.argument("name", required=False, metavar="[REPO[:TAG]]", shell_complete=completion.held)
@click.option("-a", "--all", "everything", is_flag=True, help="Also the single platforms' images below an index.")
@click.option("--digests", is_flag=True, help="Show digests.")
@click.option(
    "-f", "--filter", "filters", multiple=True, metavar="F", help=f"Filters: {', '.join(_FILTERS)}, as in F=V."
)
@click.option("--tree", is_flag=True, help="Show the platforms below each image.")
@options.no_trunc
@options.quiet("IDs")
@options.form
@options.server
def images(
    *,
    name: str | None,
    everything: bool,
    digests: bool,
    filters: tuple[str, ...],
    tree: bool,
    no_trunc: bool,
    quiet: bool,
    form: str,
    server: str | None,
) -> None:
    """List the images that are held.

    SIZE is what is stored of an image: compressed bytes (docker shows unpacked ones), layers that it shares included.
    "(part)" beside it: what is here is not whole; pull it again. UNIQUE is what no other image shares. The ID of an
    image for several platforms is that of this machine's.
    """
    if tree and (quiet or digests or everything or form != "table"):
        raise click.UsageError("--tree goes with none of --all, --quiet, --digests and --format.")
    query = _query(name, filters)
    with local.with_server(server) as api:
        found = _Found(api, query, everything=everything)
        if tree:
            output.result(_tree(found, no_trunc=no_trunc))
        elif quiet:
            identifiers = [escape(_identifier(image, whole=no_trunc)) for image in found]
            if identifiers:
                output.result("\n".join(identifiers))
        else:
            view(digests=digests, no_trunc=no_trunc).show(found, form)
    if sys.stdout.isatty() and not quiet and form == "table":
        found.remark_totals()


def view(*, digests: bool = False, no_trunc: bool = False) -> View:
    """The list of images, with `REPOSITORY` … `CREATED` as docker prints them."""
    now = time.time()
    fields = [
        Field("Repository", "REPOSITORY", lambda image: text(image, "name")),
        Field("Tag", "TAG", lambda image: text(image, "tag") or NONE),
        Field("Digest", "DIGEST", lambda image: text(image, "digest") or NONE),
        Field("ID", "IMAGE ID", lambda image: _identifier(image, whole=no_trunc)),
        Field("CreatedSince", "CREATED", lambda image: ago(instant(image.get("created")), now, unknown=NOT_KNOWN)),
        Field("CreatedAt", "CREATED AT", lambda image: _created_at(image)),
        Field("Size", "SIZE", lambda image: size(image, "size")),
        Field("HeldSize", "SIZE", _held),
        Field("UniqueSize", "UNIQUE", lambda image: size(image, "unique")),
        Field("LastPulled", "LAST PULLED", lambda image: ago(number(image, "last_pulled"), now, unknown="never")),
        Field("Platforms", "PLATFORMS", lambda image: listed(_platforms(image), whole=True)),
        Field("Pinned", "PINNED", lambda image: _word(image, "pinned")),
        Field("Origin", "ORIGIN", lambda image: text(image, "origin")),
        Field("Gone", "GONE", lambda image: _word(image, "gone")),
        Field("Complete", "COMPLETE", _complete),
    ]
    columns = [*_COLUMNS[:2], "Digest", *_COLUMNS[2:]] if digests else _COLUMNS
    return View(fields, columns)


class _Found:
    """The images, page by page, as often as they are gone through; `totals` are those of the last page read."""

    def __init__(self, api: Api, query: Query, *, everything: bool) -> None:
        self._api = api
        self._query = query
        self._everything = everything
        self._totals: Row = {}

    def __iter__(self) -> Iterator[Row]:
        for page in self._api.pages("/images", "images", self._query):
            self._totals = row(page, "totals")
            for image in rows(page, "images"):
                yield image
                if self._everything:
                    yield from _below(image)

    def remark_totals(self) -> None:
        """What the sizes come to: less than their sum."""
        count, stored = number(self._totals, "images"), number(self._totals, "bytes")
        if count is not None and stored is not None and count > 1:
            note(f"{count:,.0f} images, {human_size(stored)} together: what they share is counted once")


def _query(name: str | None, filters: tuple[str, ...]) -> Query:
    chosen = options.pairs(filters, _FILTERS)
    dangling = [value for key, value in chosen if key == "dangling"]
    if any(value not in ("true", "false") for value in dangling):
        raise click.BadParameter("dangling is true or false", param_hint="'--filter'")
    return {
        "reference" if name and names.tagged(name) else "repository": name,
        "filter": [f"{key}={value}" for key, value in chosen if key != "dangling"],
        "dangling": dangling[-1] if dangling else None,
    }


def _below(image: Row) -> Iterator[Row]:
    """The held images of single platforms below an index, as images without a tag of their own."""
    for entry in rows(image, "platforms"):
        if entry.get("held") is True and entry.get("digest") != image.get("digest"):
            own = {key: entry.get(key) for key in ("digest", "id", "size")}
            nothing = dict.fromkeys(("tag", "unique", "created", "complete"))
            yield {**image, **own, **nothing, "platforms": [entry]}


def _identifier(image: Row, *, whole: bool) -> str:
    return short(text(image, "id") or text(image, "digest"), whole=whole) or NONE


def _created_at(image: Row) -> str:
    at = instant(image.get("created"))
    return NOT_KNOWN if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} +0000 UTC"


def _held(image: Row) -> str:
    """The size, and whether a layer is missing: of a pull that failed, or of what a client did not ask for."""
    return f"{size(image, 'size')} (part)" if image.get("complete") is False else size(image, "size")


def _complete(image: Row) -> str:
    return NOTHING if image.get("complete") is None else _word(image, "complete")


def _word(image: Row, key: str) -> str:
    return "true" if image.get(key) is True else "false"


def _platforms(image: Row) -> list[str]:
    return [text(entry, "platform") for entry in rows(image, "platforms") if entry.get("attestation") is not True]


def _tree(found: _Found, *, no_trunc: bool) -> str:
    """Each image with what is below it, docker's way; `-` where a platform is not held."""
    lines = []
    for image in found:
        name = f"{text(image, 'name')}:{image['tag']}" if image.get("tag") else f"{text(image, 'name')}@{NONE}"
        lines.append([name, _identifier(image, whole=no_trunc), _held(image), size(image, "unique")])
        below = rows(image, "platforms")
        for place, entry in enumerate(below, start=1):
            label = "attestation" if entry.get("attestation") is True else text(entry, "platform") or NONE
            identifier = short(text(entry, "id") or text(entry, "digest"), whole=no_trunc)
            held = size(entry, "size") if entry.get("held") is True else NOTHING
            lines.append([f"{'└─' if place == len(below) else '├─'} {label}", identifier, held])
    return output.table(["IMAGE", "ID", "SIZE", "UNIQUE"], lines)
