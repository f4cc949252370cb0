"""`mirror user`, `offline` and `misses`: who may, whether registries are asked, and what was asked for in vain."""

import time
from typing import Any

import click

from mirror.cli import groups, local, options, output, secret, servers, transport
from mirror.cli.batch import Batch
from mirror.cli.fields import NOTHING, ago, familiar, number, rows, text
from mirror.cli.output import escape, note
from mirror.cli.table import Field, View
from mirror.errors import MirrorError, ServerUnreachable


@click.group(cls=groups.Aliased, aliases={"rm": "remove", "ls": "list"})
def user() -> None:
    """Manage the mirror's users."""


@user.command("add")
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@options.server
def add_user(*, name: str, password_stdin: bool, server: str | None) -> None:
    """Add a user, or give one a new password.

    What users may do stands in the settings: [[access.rules]].
    """
    name = secret.username(name, stdin_taken=password_stdin)
    password = secret.password(from_stdin=password_stdin, confirm=True)
    with local.with_server(server) as api:
        if api.server.exposes_secrets:
            note(f"WARNING! {escape(api.server.name)} is not https: the password can be read on its way there.")
        api.call("POST", "/users", {"username": name, "password": password})


@user.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@options.server
def remove_user(*, names: tuple[str, ...], server: str | None) -> None:
    """Remove users. Their passwords are refused from then on."""
    batch = Batch(len(names))
    with local.with_server(server) as api:
        for name in names:
            try:
                api.call("DELETE", "/users", query={"username": name})
            except MirrorError as error:
                batch.add(name, error)
    batch.end()


@user.command("list")
@options.form
@options.server
def list_users(*, form: str, server: str | None) -> None:
    """List the users."""
    with local.with_server(server) as api:
        answer = api.get("/users")
    found = rows(answer, "users") or [{"username": name} for name in answer.get("users") or [] if isinstance(name, str)]
    View([Field("Name", "NAME", lambda row: text(row, "username"))], ["Name"]).show(found, form)


@click.command()
@click.argument("state", type=click.Choice(["on", "off"]), required=False)
@options.server
def offline(*, state: str | None, server: str | None) -> None:
    """Stop asking registries, or ask them again.

    Without on or off it says which it is. Offline, what is held is served at once, and what is not is answered "not
    found". The switch lasts until the mirror ends; the setting `offline` is for longer, and for commands without one.
    """
    if state:
        answer = _switched(state, server)
    else:
        with local.with_server(server) as api:
            answer = api.get("/offline")
    output.result("on" if answer.get("offline") is True else "off")


def _switched(state: str, server: str | None) -> dict[str, Any]:
    """Of a mirror that runs: one for the sake of this command would take the switch with it at once."""
    try:
        with transport.running(server) as api:
            return api.call("PUT", "/offline", {"offline": state == "on"})
    except servers.NoServer as error:
        value = "true" if state == "on" else "false"
        raise ServerUnreachable(
            f"nothing was switched: {error.message}\n"
            f"For commands without one the setting counts: offline = {value}, or MIRROR_OFFLINE={value}"
        ) from error


@click.command()
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most this many.")
@click.option("--clear", is_flag=True, help="Begin the list anew.")
@options.form
@options.server
def misses(*, limit: int | None, clear: bool, form: str, server: str | None) -> None:
    """List what was asked for and is not here."""
    with local.with_server(server) as api:
        if clear:
            api.call("DELETE", "/misses")
            return
        found = rows(api.get("/misses", {"limit": limit}), "misses")
    now = time.time()
    view = View(
        [
            Field("Name", "NAME", lambda row: familiar(text(row, "name"))),
            Field("Count", "COUNT", lambda row: text(row, "count")),
            Field("LastAsked", "LAST ASKED", lambda row: ago(number(row, "last_at"), now, unknown=NOTHING)),
        ],
        ["Name", "Count", "LastAsked"],
    )
    view.show(found, form)
