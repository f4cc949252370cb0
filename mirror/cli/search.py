"""`mirror search`: what a registry's search knows, or what is held."""

import click

from mirror.cli import local, names, options
from mirror.cli.fields import rows, text
from mirror.cli.output import escape, note
from mirror.cli.table import Field, View, check, cut, uncut

_DESCRIPTION = 45
_FILTERS = ("is-official", "is-automated", "stars")
_MOST = 100


@click.command()
@click.argument("term")
@click.option(
    "-f", "--filter", "filters", multiple=True, metavar="F", help=f"Filters: {', '.join(_FILTERS)}, as in F=V."
)
@click.option("--limit", type=click.IntRange(1, _MOST), default=25, show_default=True, help="At most this many.")
@click.option("--registry", metavar="HOST", help="The registry to ask.  [default: Docker Hub, or that of HOST/TERM]")
@click.option("--local", "here", is_flag=True, help="Search what is held; ask no registry.")
@options.no_trunc
@options.form
@options.server
def search(
    *,
    term: str,
    filters: tuple[str, ...],
    limit: int,
    registry: str | None,
    here: bool,
    no_trunc: bool,
    form: str,
    server: str | None,
) -> None:
    """Search a registry for images.

    CACHED is [OK] where something of the repository is held here. Some registries offer no search; then the mirror
    says so.
    """
    chosen = options.pairs(filters, _FILTERS)
    named, rest = (registry, term) if registry or here else names.registry_of(term)
    query = {
        "term": rest,
        "registry": named,
        "limit": limit,
        "local": True if here else None,
        "filter": [f"{key}={value}" for key, value in chosen],
    }
    with local.with_server(server) as api:
        answer = api.get("/search", query)
    found = rows(answer, "results")
    if remark := text(answer, "remark"):
        note(escape(remark))
    whole = uncut(no_trunc=no_trunc)
    view = View(
        [
            Field("Name", "NAME", lambda entry: text(entry, "name")),
            Field(
                "Description", "DESCRIPTION", lambda entry: cut(text(entry, "description"), _DESCRIPTION, whole=whole)
            ),
            Field("StarCount", "STARS", lambda entry: text(entry, "stars") or "0"),
            Field("IsOfficial", "OFFICIAL", lambda entry: check(entry.get("official"))),
            Field("IsAutomated", "AUTOMATED", lambda entry: check(entry.get("automated"))),
            Field("Cached", "CACHED", lambda entry: check(entry.get("cached"))),
        ],
        ["Name", "Description", "StarCount", "IsOfficial", "Cached"],
    )
    view.show(found, form)
