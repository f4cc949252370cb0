"""`mirror status`: how a running mirror and its registries are doing, from `GET /api/v1/status`."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from mirror.cli import options, output, transport
from mirror.cli.fields import NOTHING, ago, is_number, number, row, rows, text
from mirror.cli.output import escape, human_duration, human_size

PATH = "/api/v1/status"
_NAME_WIDTH = 10
_WELL = ("ok", "unknown", "disabled")
_NAMED = 3  # registries named in one line


@click.command()
@options.server
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="For people, or one JSON document.",
)
def status(*, server: str | None, form: str) -> None:
    """Show how the mirror and its registries are doing.

    Bytes saved are those served without fetching them anew. Sizes are stored, compressed bytes.
    """
    answer = transport.get_json(PATH, server=server)
    if not isinstance(answer, dict):
        answer = {}
    if form == "json":
        output.result_json(answer)
    else:
        output.result(render(answer, now=time.time()))


def render(status: Mapping[str, Any], *, now: float) -> str:
    """The answer as people read it. What a mirror of another version leaves out is left out here."""
    lines = [*_summary(status, now), "", *_registries(rows(status, "registries"), now)]
    only_here = list(_only_here(rows(status, "only_here"), now))
    return "\n".join(lines + only_here).rstrip("\n")


# --- the mirror -------------------------------------------------------------------------------------------


def _summary(status: Mapping[str, Any], now: float) -> Iterator[str]:
    uptime = status.get("uptime_seconds")
    state = f"up {human_duration(uptime).lower()}" if is_number(uptime) else "up"
    offline = ", offline: no registry is asked" if status.get("offline") else ""
    yield _row("mirror", f"{_text(status, 'version')}, {state}{offline}")
    listen = status.get("listen")
    addresses = [escape(str(address)) for address in listen] if isinstance(listen, list) else []
    yield _row("listens on", ", ".join(addresses) or "nothing")
    yield from _traffic(row(status, "traffic"))
    yield from _data(row(status, "data"))
    yield from _sent(rows(status, "sent"))
    yield from _queue(row(status, "queue"), now)


def _traffic(traffic: Mapping[str, Any]) -> Iterator[str]:
    if not traffic:
        return
    ratio = traffic.get("hit_ratio")
    hits = f"hit ratio {_percent(ratio)}" if is_number(ratio) else "no hit or miss yet"
    yield _row("requests", f"{_number(traffic, 'requests')}, {hits}")
    sizes = (f"{word} {_size(traffic, f'{word}_bytes')}" for word in ("served", "fetched", "saved"))
    yield _row("bytes", ", ".join(sizes))


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    if not data:
        return
    path = f"{_text(data, 'path')}, " if data.get("path") else ""
    yield _row("data", f"{path}{_size(data, 'bytes')} in {_counted(data, 'blobs')}, {_size(data, 'free_bytes')} free")
    free, reserve = data.get("free_bytes"), data.get("reserve_bytes")
    if is_number(free) and is_number(reserve) and free < reserve:
        yield _row("room", f"none: min_free leaves {_size(data, 'reserve_bytes')} free, so what is pulled is not kept")
    only_here = data.get("only_here")
    kept = f", {only_here} only here" if only_here else ""
    yield _row("images", f"{_counted(data, 'tags')} in {_counted(data, 'repositories')}{kept}")


def _sent(registries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What pushes have sent: `41.2MB in 3 blobs to ghcr.io`."""
    if registries:
        said = [
            f"{_size(each, 'bytes')} in {_counted(each, 'blobs')} to {_text(each, 'registry')}" for each in registries
        ]
        yield _row("sent", ", ".join(said[:_NAMED]) + (f" and {len(said) - _NAMED} more" if len(said) > _NAMED else ""))


def _queue(queue: Mapping[str, Any], now: float) -> Iterator[str]:
    """What waits to be sent; nothing where nothing does."""
    waiting, refused = number(queue, "waiting"), number(queue, "refused")
    if not waiting:
        return
    since = number(queue, "since")
    oldest = "" if since is None else f", the first one since {human_duration(max(0.0, now - since)).lower()}"
    no = f", {refused:,.0f} refused" if refused else ""
    yield _row("queue", f"{waiting:,.0f} {'push waits' if waiting == 1 else 'pushes wait'}{oldest}{no}: mirror queue")


def _row(name: str, said: str) -> str:
    return f"{name:<{_NAME_WIDTH}}   {said}"


# --- registries -------------------------------------------------------------------------------------------


def _registries(registries: Sequence[Mapping[str, Any]], now: float) -> Iterator[str]:
    if not registries:
        return
    cells = [
        [
            text(registry, "name"),
            text(registry, "state"),
            _since(registry, now),
            _pulls(registry),
            _remark(registry, now),
        ]
        for registry in registries
    ]
    yield output.table(["REGISTRY", "STATE", "SINCE", "PULLS LEFT", "REMARK"], cells)
    yield from _meanwhile(registries)


def _meanwhile(registries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is served of the registries that are not well; said once for those that have it in common."""
    served: dict[str, list[str]] = {}
    for registry in registries:
        if registry.get("state") not in _WELL and registry.get("serving"):
            served.setdefault(_text(registry, "serving"), []).append(_text(registry, "name"))
    if served:
        yield ""
    for what, names in served.items():
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        yield f"Served meanwhile of {shown}: {what}"


def _since(registry: Mapping[str, Any], now: float) -> str:
    return ago(number(registry, "since"), now, unknown=NOTHING)


def _pulls(registry: Mapping[str, Any]) -> str:
    left, limit = registry.get("pulls_left"), registry.get("pulls_limit")
    if not is_number(left):
        return NOTHING
    return f"{left} of {limit}" if is_number(limit) else str(left)


def _remark(registry: Mapping[str, Any], now: float) -> str:
    """Why, and when it is asked again; nothing where all is well."""
    parts = [text(registry, "reason").removeprefix(f"{text(registry, 'name')}: ")]
    retry_at = registry.get("retry_at")
    if is_number(retry_at) and retry_at > now:
        parts.append(f"asked again in {human_duration(retry_at - now).lower()}")
    return "; ".join(part for part in parts if part)


def _only_here(images: Sequence[Mapping[str, Any]], now: float) -> Iterator[str]:
    if images:
        cells = [[text(image, "name"), _gone(image, now)] for image in images]
        yield ""
        yield output.table(["ONLY HERE", "GONE UPSTREAM"], cells)


def _gone(image: Mapping[str, Any], now: float) -> str:
    return ago(number(image, "gone_at"), now, unknown=NOTHING)


# --- reading an answer that anyone may have written ---------------------------------------------------------


def _text(values: Mapping[str, Any], key: str) -> str:
    return escape(text(values, key))


def _number(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return f"{value:,}" if is_number(value) else "?"


def _counted(values: Mapping[str, Any], noun: str) -> str:
    singular = {"repositories": "repository", "tags": "tag", "blobs": "blob"}
    return f"{_number(values, noun)} {singular[noun] if values.get(noun) == 1 else noun}"


def _size(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    return human_size(value) if is_number(value) else "?"


def _percent(ratio: float) -> str:
    """A share of 1; never 100 % where something was missed, nor 0 % where something was hit."""
    percent = ratio * 100
    if 0 < percent < 1:
        return "< 1 %"
    return f"{int(percent)} %"
