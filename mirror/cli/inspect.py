"""`mirror inspect`, `history` and `layers`: what one image is made of, and who shares it."""

import time
from typing import Any
from urllib.parse import quote

import click

from mirror.cli import completion, local, options, output
from mirror.cli.batch import Batch
from mirror.cli.fields import (
    NOT_KNOWN,
    NOTHING,
    Row,
    ago,
    familiar,
    instant,
    is_number,
    listed,
    number,
    row,
    rows,
    short,
    text,
    texts,
)
from mirror.cli.output import escape, human_size
from mirror.cli.table import Field, View, cut, uncut
from mirror.cli.transport import Api
from mirror.errors import ManifestUnknown, MirrorError

_CREATED_BY, _COMMENT = 45, 45
_MISSING = "<missing>"
_MANIFESTS = ", ".join(
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "*/*",
    ]
)


@click.command()
@click.argument("references", nargs=-1, required=True, metavar="REF...", shell_complete=completion.held)
@click.option("-f", "--format", "form", metavar="FORM", default="json", help="json, or '{{.Field}}' (a Go template).")
@click.option("--raw", is_flag=True, help="Print the manifest, byte for byte as it is stored.")
@options.platform
@options.server
def inspect(*, references: tuple[str, ...], form: str, raw: bool, platform: str | None, server: str | None) -> None:
    """Display details of images, as JSON with docker's keys.

    Size is what is stored, compressed. Beside docker's keys: Digest, MediaType, Platforms, Layers, Pins, Unique,
    LastPulled, Origin, Gone, Complete.
    """
    batch = Batch(len(references))
    found: list[dict[str, Any]] = []
    with local.with_server(server) as api:
        for reference in references:
            try:
                detail = _detail(api, reference, platform)
                manifest = _manifest(api, detail) if raw else b""
            except MirrorError as error:
                batch.add(reference, error)
                continue
            if raw:
                output.result(manifest, end=False)
            else:
                found.append(described(detail))
    if not raw and (found or form == "json"):
        _print(found, form)
    batch.end()


def _print(found: list[dict[str, Any]], form: str) -> None:
    if form == "json":
        output.result_json(found)
        return
    from mirror.cli.template import Template
    from mirror.cli.template_functions import TemplateError

    try:
        template = Template(form)
        for value in found:
            output.result(template.fill(value))
    except TemplateError as error:
        raise click.BadParameter(escape(str(error)), param_hint="'--format'") from error


def _detail(api: Api, reference: str, platform: str | None) -> dict[str, Any]:
    return api.get("/image", {"ref": reference, "platform": platform})


def _manifest(api: Api, detail: Row) -> bytes:
    """The manifest's own bytes: JSON that was parsed and printed again has another digest."""
    registry, _, path = text(detail, "repository").partition("/")
    if not path:
        registry, path = "local", registry
    asked = f"/v2/{quote(path)}/manifests/{quote(text(detail, 'digest'), safe=':')}"
    status, body = api.request(
        "GET",
        asked if registry == "local" else f"{asked}?ns={quote(registry, safe=':')}",
        headers={"Accept": _MANIFESTS},
    )
    if status != 200:
        raise ManifestUnknown(
            f"the manifest of {escape(text(detail, 'name'))} cannot be read: the mirror said {status}"
        )
    return body


def described(detail: Row) -> dict[str, Any]:
    """An image as `docker inspect` tells it, and what docker does not know of it."""
    config = row(detail, "config")
    digest, repository = text(detail, "digest"), text(detail, "name")
    root = row(config, "rootfs")
    return {
        "Id": detail.get("id") or digest,
        "RepoTags": [familiar(name) for name in texts(detail, "tags")],
        "RepoDigests": [f"{repository}@{digest}"],
        "Created": detail.get("created") or "",
        "Author": text(config, "author"),
        "Architecture": text(config, "architecture"),
        "Variant": text(config, "variant"),
        "Os": text(config, "os"),
        "Size": number(detail, "size") or 0,
        "Config": dict(row(config, "config")),
        "RootFS": {"Type": text(root, "type") or "layers", "Layers": texts(root, "diff_ids")},
        "Digest": digest,
        "MediaType": text(detail, "media_type"),
        "Manifest": dict(row(detail, "manifest")),
        "Platforms": rows(detail, "children") or rows(detail, "platforms"),
        "Layers": rows(detail, "layers"),
        "Pins": texts(detail, "pins"),
        "Unique": number(detail, "unique"),
        "LastPulled": number(detail, "last_pulled"),
        "Origin": text(detail, "origin"),
        "Gone": detail.get("gone") is True,
        "Complete": detail.get("complete") is True,
    }


@click.command()
@click.argument("reference", metavar="REF", shell_complete=completion.held)
@click.option("-H", "--human/--no-human", default=True, help="Sizes and times in words.  [default: yes]")
@click.option("--raw", is_flag=True, help="The same as --no-human: bytes, and times as they are stored.")
@options.platform
@options.no_trunc
@options.quiet("IDs")
@options.form
@options.server
def history(
    *,
    reference: str,
    human: bool,
    raw: bool,
    platform: str | None,
    no_trunc: bool,
    quiet: bool,
    form: str,
    server: str | None,
) -> None:
    """Show the history of an image: its steps, the last one first.

    SIZE is what is stored of the step's layer, compressed.
    """
    with local.with_server(server) as api:
        detail = _detail(api, reference, platform)
    steps = _steps(detail)
    if quiet:
        if steps:
            output.result("\n".join(escape(short(text(step, "id"), whole=no_trunc)) for step in steps))
        return
    _history_view(whole=uncut(no_trunc=no_trunc), no_trunc=no_trunc, human=human and not raw).show(steps, form)


def _history_view(*, whole: bool, no_trunc: bool, human: bool) -> View:
    now = time.time()

    def since(step: Row) -> str:
        return ago(instant(step.get("created")), now, unknown=NOT_KNOWN)

    def at(step: Row) -> str:
        return text(step, "created") or NOT_KNOWN

    def by(step: Row) -> str:
        return cut(text(step, "created_by").replace("\t", " "), _CREATED_BY, whole=whole)

    return View(
        [
            Field("ID", "IMAGE", lambda step: short(text(step, "id"), whole=no_trunc)),
            Field("CreatedSince", "CREATED", since if human else at),
            Field("CreatedAt", "CREATED AT", at),
            Field("CreatedBy", "CREATED BY", by),
            Field("Size", "SIZE", lambda step: _step_size(step, human=human)),
            Field("Comment", "COMMENT", lambda step: cut(text(step, "comment"), _COMMENT, whole=whole)),
        ],
        ["ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment"],
    )


def _step_size(step: Row, *, human: bool) -> str:
    value = number(step, "size")
    if value is None:
        return NOTHING
    return human_size(value) if human else f"{value:.0f}"


def _steps(detail: Row) -> list[dict[str, Any]]:
    """The config's history, last step first, each with the size of the layer that it made. A step that made none has
    0; where steps and layers do not fit together, no size is known."""
    sizes = [layer.get("size") for layer in rows(detail, "layers")]
    past = rows(row(detail, "config"), "history")
    made = [step for step in past if step.get("empty_layer") is not True]
    fits = len(made) == len(sizes)
    if not past:  # an artifact, or an image that keeps its history to itself
        past, fits = [{} for _ in sizes], True
    left = iter(sizes)
    steps = []
    for place, step in enumerate(past, start=1):
        empty = step.get("empty_layer") is True
        value: object = 0 if empty else next(left, None) if fits else None
        steps.append(
            {
                "id": text(detail, "id") or text(detail, "digest") if place == len(past) else _MISSING,
                "created": step.get("created"),
                "created_by": text(step, "created_by"),
                "size": value if is_number(value) else None,
                "comment": text(step, "comment"),
            }
        )
    return steps[::-1]


@click.command()
@click.argument("reference", metavar="REF", shell_complete=completion.held)
@click.option("--raw", is_flag=True, help="Sizes in bytes.")
@options.no_trunc
@options.form
@options.server
def layers(*, reference: str, raw: bool, no_trunc: bool, form: str, server: str | None) -> None:
    """List an image's layers, and who shares them."""
    with local.with_server(server) as api:
        found = rows(api.get("/layers", {"ref": reference}), "layers")
    whole = uncut(no_trunc=no_trunc)
    view = View(
        [
            Field("Digest", "LAYER", lambda layer: short(text(layer, "digest"), whole=no_trunc)),
            Field("Size", "SIZE", lambda layer: _step_size(layer, human=not raw)),
            Field("MediaType", "MEDIA TYPE", lambda layer: text(layer, "media_type")),
            Field("Held", "HELD", lambda layer: "yes" if layer.get("held") is True else "no"),
            Field("SharedWith", "SHARED WITH", lambda layer: listed(_sharing(layer), whole=whole)),
        ],
        ["Digest", "Size", "Held", "SharedWith"],
    )
    view.show(found, form)


def _sharing(layer: Row) -> list[str]:
    return [familiar(name) for name in texts(layer, "shared_with")]
