"""`mirror queue`: the pushes that wait for their registry."""

import time

import click

from mirror.cli import completion, local, options, output
from mirror.cli.batch import Batch
from mirror.cli.fields import NOTHING, Row, ago, familiar, number, row, rows, short, text
from mirror.cli.output import human_duration, human_size
from mirror.cli.table import Field, View, cut, uncut
from mirror.errors import NameUnknown

_WHY = 60


@click.group(invoke_without_command=True, subcommand_metavar="[retry|drop]")
@options.no_trunc
@options.form
@options.server
@click.pass_context
def queue(ctx: click.Context, *, no_trunc: bool, form: str, server: str | None) -> None:
    """List the pushes that wait for their registry.

    They are there because push = "queue" is set for it. What finds no answer is tried again, later each time; what
    the registry has refused is tried once an hour, or by retry.
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = server
        return
    with local.with_server(server) as api:
        found = rows(api.get("/queue"), "pushes")
    _view(time.time(), whole_ids=no_trunc, whole=uncut(no_trunc=no_trunc)).show(found, form)


@queue.command()
@click.argument("ids", nargs=-1, type=click.IntRange(0), metavar="[ID...]", shell_complete=completion.queued)
@options.server
@click.pass_context
def retry(ctx: click.Context, *, ids: tuple[int, ...], server: str | None) -> None:
    """Try pushes at once, also what was refused; without an ID all of them."""
    with local.with_server(server or ctx.obj) as api:
        answer = api.call("POST", "/queue", {"ids": list(ids)} if ids else {"all": True})
    _told("Tried now", answer, ids)


@queue.command()
@click.argument("ids", nargs=-1, type=click.IntRange(0), metavar="[ID...]", shell_complete=completion.queued)
@click.option("--all", "everything", is_flag=True, help="All of them.")
@options.server
@click.pass_context
def drop(ctx: click.Context, *, ids: tuple[int, ...], everything: bool, server: str | None) -> None:
    """Send pushes no more. The images stay here.

    Give their IDs, or --all.
    """
    if everything == bool(ids):
        raise click.UsageError("Give the IDs of pushes, or --all.")
    query = {"all": True} if everything else {"id": [str(each) for each in ids]}
    with local.with_server(server or ctx.obj) as api:
        answer = api.call("DELETE", "/queue", query=query)
    _told("Dropped", answer, ids)


def _told(word: str, answer: Row, ids: tuple[int, ...]) -> None:
    """How many they were; raises for those that are none."""
    unknown = answer.get("unknown")
    batch = Batch(len(dict.fromkeys(ids)))
    for each in unknown if isinstance(unknown, list) else ():
        batch.add("", NameUnknown(f"there is no push {each} in the queue"))
    count = number(answer, "count") or 0
    if count or not batch.failed:
        output.result(f"{word}: {count:,.0f} push{'' if count == 1 else 'es'}")
    batch.end()


def _view(now: float, *, whole_ids: bool, whole: bool) -> View:
    return View(
        [
            Field("ID", "ID", lambda push: text(push, "id")),
            Field("Name", "NAME", lambda push: familiar(text(push, "name"))),
            Field("Registry", "REGISTRY", lambda push: text(push, "registry")),
            Field("Digest", "DIGEST", lambda push: short(text(push, "digest"), whole=whole_ids)),
            Field("Since", "SINCE", lambda push: ago(number(push, "queued_at"), now, unknown=NOTHING)),
            Field("Tries", "TRIES", lambda push: text(push, "attempts")),
            Field("Next", "NEXT", lambda push: _next(push, now)),
            Field("Why", "WHY", lambda push: cut(_why(push), _WHY, whole=whole)),
        ],
        ["ID", "Name", "Digest", "Since", "Tries", "Next", "Why"],
    )


def _next(push: Row, now: float) -> str:
    """When it is tried again."""
    if row(push, "sending"):
        return "now"
    at = number(push, "next_at")
    if at is None or at <= now:
        return "soon"
    return f"in {human_duration(at - now).lower()}"


def _why(push: Row) -> str:
    """How far it is while it is sent; else why it was not."""
    sending = row(push, "sending")
    if sending:
        done, whole = number(sending, "bytes_done") or 0, number(sending, "bytes") or 0
        there, layers = number(sending, "layers_done") or 0, number(sending, "layers") or 0
        of = f"{there:.0f} of {layers:.0f} layer{'' if layers == 1 else 's'}"
        return f"sending: {of}, {human_size(done)} of {human_size(whole)}"
    refused = "refused: " if push.get("refused") is True else ""
    return f"{refused}{text(push, 'failure')}"
