"""`mirror serve`, and what else needs the server's own code in this process.

The one module of the command line that may import `mirror.application`, and only inside a function: that import
takes longer than most verbs.
"""

import contextlib
import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from mirror.cli import output, servers, transport
from mirror.errors import DataBusy, MirrorError, ServerUnreachable

_PATIENCE_S = 15.0  # for a mirror that starts, or ends, in another process
_REMARK_S = 1.0
_PAUSE_S = 0.05


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings, as TOML.  [default: /etc/mirror/mirror.toml where it is there]",
)
@click.option(
    "--data",
    metavar="DIR",
    help="Where images are kept.  [default: /var/lib/mirror as root, else $XDG_DATA_HOME/mirror]",
)
@click.option(
    "--listen",
    multiple=True,
    metavar="HOST:PORT",
    help="Address to listen on; may be given several times.  [default: 127.0.0.1:5000]",
)
@click.option("--offline", is_flag=True, help="Ask no registry anything; serve what is held.")
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), help="Form of the log on standard error.  [default: text]"
)
@click.option(
    "--access-log", metavar="FILE", help='Write a line per request to FILE; "-" is standard error.  [default: none]'
)
@click.pass_context
def serve(
    ctx: click.Context,
    *,
    config: Path | None,
    data: str | None,
    listen: tuple[str, ...],
    offline: bool,
    log_format: str | None,
    access_log: str | None,
) -> None:
    """Run the mirror.

    Flags win over the environment (MIRROR_LISTEN, MIRROR_DATA, …), which wins over the file. SIGTERM or Ctrl-C ends
    it cleanly, a second one at once.
    """
    with _importing():
        from mirror import application

    settings = application.load_settings(
        config,
        {
            "data": data,
            "listen": listen,
            "offline": offline or None,
            "log_format": log_format,
            "access_log": access_log,
        },
    )
    ctx.exit(application.serve(settings))


@contextmanager
def _importing() -> Iterator[None]:
    """Nothing that is imported is garbage: looking for some among it would be a fifth of the time that it takes."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def with_server(server: str | None) -> Iterator[transport.Api]:
    """The mirror that a verb asks: the one named, else the one that runs here, else one of this process's own, which
    ends when this command and all that joined it are done.

    Raises `ServerUnreachable` where the named one does not answer, `Denied` where this user may not use the one that
    runs, `DataBusy` where somebody has the data and answers nobody, `ConfigInvalid`.
    """
    with contextlib.ExitStack() as stack:
        yield _reach(server, stack)


def _reach(server: str | None, stack: contextlib.ExitStack) -> transport.Api:
    named = server or os.environ.get("MIRROR_SERVER")
    waiting = _Waiting()
    while True:
        found = _found(server)
        try:
            if found is None:
                path = stack.enter_context(_own_server())
                found = servers.Server(f"unix://{path}", path=Path(path))
                named = found.name
            return stack.enter_context(transport.Api(found, transport.login_for(found, os.environ)))
        except DataBusy as error:  # somebody else starts one, or has not quite ended
            waiting.go_on(error)
        except ServerUnreachable as error:  # it has ended since it was found
            if named:
                raise
            waiting.go_on(error)


def _found(server: str | None) -> servers.Server | None:
    try:
        return servers.find(server, os.environ)
    except servers.NoServer as error:
        _check_refused(error)
        return None


class _Waiting:
    """For another process, with a remark after a moment, and not for ever."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._remarked = False

    def go_on(self, error: MirrorError) -> None:
        """Wait a little; raise `error` once that went on for too long."""
        waited = time.monotonic() - self._began
        if waited > _PATIENCE_S:
            raise error
        if waited > _REMARK_S and not self._remarked:
            output.note(f"waiting: {output.escape(error.message)}")
            self._remarked = True
        time.sleep(_PAUSE_S)


@contextmanager
def _own_server() -> Iterator[Path]:
    with _importing():
        from mirror import application

    settings = application.load_settings(None, {})
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(application.ephemeral(settings, remark=_remark_others))
        except DataBusy as error:
            raise DataBusy(
                f"{servers.holder(settings.data)} has the data folder {settings.data} and does not answer (yet);"
                " it starts, ends, or hangs. Try again later, or set MIRROR_DATA to another folder"
            ) from error
        yield path


def _remark_others() -> None:
    output.note("waiting for other commands, which use the mirror of this one; Ctrl-C breaks them off")


def _check_refused(error: servers.NoServer) -> None:
    """A mirror that runs, and is not for this user, is no reason to begin another cache without a word. Nor is root's
    command a reason to take the data of a service that is stopped: its files would not be the service's any more."""
    refusal = servers.refusal(error, os.environ)
    if refusal is not None:
        raise refusal from error
    if os.geteuid() == 0 and not os.environ.get("MIRROR_DATA") and _owner(servers.SYSTEM_DATA) != 0:
        raise ServerUnreachable(
            f"the mirror of this system is stopped, and its data {servers.SYSTEM_DATA} is its own;"
            " start it: systemctl start mirror"
        ) from error


def _owner(folder: Path) -> int:
    """The user whose it is; root where it is not there yet."""
    try:
        return folder.stat().st_uid
    except OSError:
        return 0


def check_config(config: Path | None) -> str:
    """Sentences on settings that are valid: where they come from. Raises `ConfigInvalid`."""
    with _importing():
        from mirror import application

    settings = application.load_settings(config, {})
    for remark in settings.remarks:
        output.note(f"WARNING: {output.escape(remark)}")
    where = output.escape(str(settings.file)) if settings.file else "no file, so the defaults"
    enabled = sum(registry.enabled for registry in settings.registries.values())
    said = [f"valid: {where} ({enabled} registries)"]
    if settings.variables:
        said.append(f"from the environment: {', '.join(settings.variables)}")
    return "\n".join(said)


def show_config(config: Path | None) -> str:
    """The settings in force, as TOML with comments. Raises `ConfigInvalid`."""
    with _importing():
        from mirror import application

    return application.describe_settings(application.load_settings(config, {}))
