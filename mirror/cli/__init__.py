"""The command line: docker's words where docker has them. A thin client of `/api/v1/`; `cli.local` alone starts a
server in this process.

A verb's module is imported when the verb is used, and none of them imports aiohttp or pydantic: they take longer to
import than most verbs take to run. Exit codes stand on the exception classes (`mirror.errors`).
"""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import click

from mirror import __version__
from mirror.cli.output import escape, note
from mirror.errors import MirrorError

INTERRUPTED = 130

#: Verb → the module that holds it, and its name there; in the order of the help.
VERBS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "serve": ("mirror.cli.local", "serve"),
        "status": ("mirror.cli.status", "status"),
        "config": ("mirror.cli.config_verbs", "config"),
    }
)


class _Verbs(click.Group):
    """Finds verbs in `VERBS`, and ends the process with the exit codes that the README lists."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, name = VERBS[cmd_name]
        command = getattr(importlib.import_module(module), name)
        return command if isinstance(command, click.Command) else None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MirrorError as error:
            for line in error.message.splitlines():
                note(f"mirror: {escape(line)}")
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-v", "--version", prog_name="mirror", message="%(prog)s %(version)s")
def main() -> None:
    """A local cache and mirror for container images.

    Docker, containerd, podman and build tools pull through it; what was pulled once is here from then on, also when
    the registry is not.
    """
