"""`mirror config check|show`: the settings that `mirror serve` would run with."""

from pathlib import Path

import click

from mirror.cli import local, output

_file = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings, as TOML.  [default: /etc/mirror/mirror.toml where it is there]",
)


@click.group()
def config() -> None:
    """Check the settings, or show those in force."""


@config.command()
@_file
def check(*, config: Path | None) -> None:
    """Say what is wrong with the settings, or that nothing is.

    Reads what `mirror serve` would: the file and the MIRROR_… variables. Exits 2 where something is wrong.
    """
    output.result(local.check_config(config))


@config.command()
@_file
def show(*, config: Path | None) -> None:
    """Print the settings in force, and where each comes from.

    The output is TOML. Passwords are hidden.
    """
    output.result(local.show_config(config).rstrip("\n"))
