"""`mirror serve`, and what else needs the server's own code in this process.

The one module of the command line that may import `mirror.application`, and only inside a function: that import
takes longer than most verbs.
"""

from pathlib import Path

import click

from mirror.cli import output


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


def check_config(config: Path | None) -> str:
    """A sentence on settings that are valid. Raises `ConfigInvalid`."""
    from mirror import application

    settings = application.load_settings(config, {})
    where = output.escape(str(settings.file)) if settings.file else "no file, so the defaults"
    enabled = sum(registry.enabled for registry in settings.registries.values())
    return f"valid: {where} ({enabled} registries)"


def show_config(config: Path | None) -> str:
    """The settings in force, as TOML with comments. Raises `ConfigInvalid`."""
    from mirror import application

    return application.describe_settings(application.load_settings(config, {}))
