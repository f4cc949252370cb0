"""`mirror login` and `logout`: the mirror's own logins at registries, and this user's at a mirror.

`mirror login REGISTRY` gives the mirror a user and a password for its requests to that registry; the mirror checks
and stores them. `mirror login --server URL` is for this client's requests to that mirror; they are kept where docker
keeps its own.
"""

import http.client
import os

import click

from mirror import docker_config
from mirror.cli import local, options, output, secret, servers, transport
from mirror.cli.fields import text
from mirror.cli.output import escape, note
from mirror.errors import Denied, ServerUnreachable

_HUB = "docker.io"
_REFUSED = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)


@click.command()
@click.argument("registry", required=False, metavar="[REGISTRY]")
@click.option("-u", "--username", metavar="NAME", help="User name.  [default: asks for it]")
@click.option("--password-stdin", is_flag=True, help="Read the password, or token, from standard input.")
@options.server
def login(*, registry: str | None, username: str | None, password_stdin: bool, server: str | None) -> None:
    """Log in: the mirror to a registry, or yourself to a mirror.

    With REGISTRY (Docker Hub where none is named) it is the mirror that uses the login, for all it fetches there.
    With --server URL alone it is this command, and docker, that use it at that mirror, where it has users.
    """
    target = _own_target(registry, server)
    given = secret.username(username, stdin_taken=password_stdin)
    password = secret.password(from_stdin=password_stdin)
    if target is None:
        _log_mirror_in(registry or _HUB, given, password, server)
    elif not _log_in_here(target, given, password):
        return
    output.result("Login Succeeded")


@click.command()
@click.argument("registry", required=False, metavar="[REGISTRY]")
@options.server
def logout(*, registry: str | None, server: str | None) -> None:
    """Log out: the mirror from a registry, or yourself from a mirror.

    From Docker Hub where no REGISTRY is named; with --server URL alone it is you who logs out, from that mirror.
    """
    target = _own_target(registry, server)
    if target is None:
        name = registry or _HUB
        with local.with_server(server) as api:
            removed = api.call("POST", "/logout", {"registry": name}).get("removed") is not False
    else:
        name = target.authority or ""
        removed = docker_config.DockerConfig(os.environ).erase(name)
    output.result(f"{'Removing login credentials for' if removed else 'Not logged in to'} {escape(name)}")


def _own_target(registry: str | None, server: str | None) -> servers.Server | None:
    """The mirror that this user logs in to; None where it is the mirror that logs in somewhere."""
    if registry is not None or server is None:
        return None
    target = servers.parse_server(server)
    if target.authority is None:
        raise click.UsageError("A socket needs no login. Name the registry that the mirror shall log in to.")
    return target


def _log_in_here(target: servers.Server, username: str, password: str) -> bool:
    """Whether there was anybody to log in with."""
    _warn(target)
    with transport.Api(target, (username, password)) as api:
        status, _ = api.request("GET", "/v2/")
        unseen = status == http.client.OK and _looks_at_none(api)
    if status in _REFUSED:
        raise Denied(f"{target.name} refused this user name and password; nothing was stored")
    if status != http.client.OK:
        raise ServerUnreachable(f"{target.name} answered {status}, but not as a mirror does; nothing was stored")
    if unseen:
        note(f"{escape(target.name)} has no users and ignores credentials, so it needs no login; nothing was stored")
        return False
    config = docker_config.DockerConfig(os.environ)
    stored_in = config.store(target.authority or "", username, password)
    if stored_in == str(config.path):
        note(f"WARNING! Your credentials are stored unencrypted in '{escape(stored_in)}'.")
    return True


def _looks_at_none(api: transport.Api) -> bool:
    """Whether credentials that no mirror with users takes do as well. A wrong password would count as a guess there;
    what is none does not."""
    status, _ = api.request("GET", "/v2/", headers={"Authorization": "Bearer none"})
    return status == http.client.OK


def _log_mirror_in(registry: str, username: str, password: str, server: str | None) -> None:
    body = {"registry": registry, "username": username, "password": password}
    with local.with_server(server) as api:
        _warn(api.server)
        answer = api.call("POST", "/login", body)
    stored_in = text(answer, "stored_in")
    if stored_in:
        note(f"Stored by the mirror in {escape(stored_in)}")


def _warn(target: servers.Server) -> None:
    if target.exposes_secrets:
        note(f"WARNING! {escape(target.name)} is not https: the password can be read on its way there.")
