"""`mirror tags`: which tags a repository has, here and at its registry. `mirror tag`: another name for an image."""

import time

import click

from mirror.cli import completion, local, names, options
from mirror.cli.fields import NOTHING, Row, ago, instant, listed, number, rows, short, size, text, texts
from mirror.cli.output import escape, note
from mirror.cli.table import Field, View, check, uncut


@click.command()
@click.argument("repository", metavar="REPO", shell_complete=completion.repositories)
@click.option("--match", metavar="GLOB", help="Only tags like this, as in '3.*-alpine'.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most this many.")
@click.option("--history", is_flag=True, help="Show every move of a tag that this mirror saw, the last one first.")
@options.no_trunc
@options.quiet("tags")
@options.form
@options.server
def tags(
    *,
    repository: str,
    match: str | None,
    limit: int | None,
    history: bool,
    no_trunc: bool,
    quiet: bool,
    form: str,
    server: str | None,
) -> None:
    """List a repository's tags, here and at its registry.

    What nobody asked the registry for yet is not known: then DIGEST and what follows it show "-". CACHED is [OK] for
    what is held, and "only here" for what its registry no longer has.
    """
    if names.tagged(repository):
        raise click.UsageError(f"Name a repository without a tag; its tags are chosen with --match ({repository!r}).")
    query = {"repository": repository, "match": match, "history": True if history else None}
    key = "history" if history else "tags"
    with local.with_server(server) as api:
        pages = api.pages("/tags", key, query, limit=limit)
        warnings: list[str] = []
        found = (entry for page in pages for entry in _entries(page, key, warnings))
        if quiet:
            _names_view().show(found, "{{.Tag}}")
        elif history:
            _history_view(no_trunc=no_trunc).show(found, form)
        else:
            _view(no_trunc=no_trunc).show(found, form)
    for warning in dict.fromkeys(warnings):
        note(f"WARNING: {escape(warning)}")


def _entries(page: Row, key: str, warnings: list[str]) -> list[Row]:
    """The entries of a page; what is missing from it is said in `warnings`."""
    if page.get("warning"):
        warnings.append(text(page, "warning"))
    return rows(page, key)


def _names_view() -> View:
    return View([Field("Tag", "TAG", lambda tag: text(tag, "name"))], ["Tag"])


def _view(*, no_trunc: bool) -> View:
    now, whole = time.time(), uncut(no_trunc=no_trunc)
    return View(
        [
            Field("Tag", "TAG", lambda tag: text(tag, "name")),
            Field("Digest", "DIGEST", lambda tag: short(text(tag, "digest"), whole=no_trunc) or NOTHING),
            Field("Platforms", "PLATFORMS", lambda tag: listed(texts(tag, "platforms"), whole=whole) or NOTHING),
            Field("Size", "SIZE", lambda tag: size(tag, "size")),
            Field("CreatedSince", "CREATED", lambda tag: ago(instant(tag.get("created")), now, unknown=NOTHING)),
            Field("CreatedAt", "CREATED AT", lambda tag: text(tag, "created") or NOTHING),
            Field("Cached", "CACHED", _cached),
        ],
        ["Tag", "Digest", "Platforms", "Size", "CreatedSince", "Cached"],
    )


def _cached(tag: Row) -> str:
    return "only here" if tag.get("gone") is True else check(tag.get("cached"))


def _history_view(*, no_trunc: bool) -> View:
    now = time.time()
    return View(
        [
            Field("Moved", "MOVED", lambda move: ago(number(move, "at"), now, unknown=NOTHING)),
            Field("Tag", "TAG", lambda move: text(move, "name")),
            Field("Digest", "DIGEST", lambda move: short(text(move, "digest"), whole=no_trunc) or "removed"),
            Field("Actor", "BY", lambda move: text(move, "actor") or NOTHING),
        ],
        ["Moved", "Tag", "Digest", "Actor"],
    )


@click.command()
@click.argument("source", metavar="SOURCE[:TAG]", shell_complete=completion.held)
@click.argument("target", metavar="TARGET[:TAG]")
@options.server
def tag(*, source: str, target: str, server: str | None) -> None:
    """Give an image another name. Nothing is copied, and no registry is told.

    A target without a registry is this mirror's own repository.
    """
    names.check_name(target)
    with local.with_server(server) as api:
        api.call("POST", "/tag", {"source": source, "target": target})
