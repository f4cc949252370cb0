"""Options that several verbs share, so that each is called and explained alike."""

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

server: Decorator = click.option(
    "--server",
    metavar="URL",
    help="The mirror to ask: http://HOST:PORT, or the path of its socket or data folder."
    "  [default: that of MIRROR_DATA where it is set, else the system's, else yours]",
)
form: Decorator = click.option(
    "--format",
    "form",
    metavar="FORM",
    default="table",
    help="table, json (one document), jsonl (a line each), '{{.Field}}' or 'table {{.Field}}' (Go templates)."
    "  [default: table]",
)
no_trunc: Decorator = click.option("--no-trunc", is_flag=True, help="Show whole IDs and texts.")
platform: Decorator = click.option("--platform", metavar="P", help="Look at this platform's image, as in linux/arm64.")
progress: Decorator = click.option(
    "--progress",
    type=click.Choice(["auto", "tty", "plain", "json", "none"]),
    default="auto",
    help="How progress is shown on standard error.  [default: auto, tty on a terminal, else plain]",
)
dry_run: Decorator = click.option("--dry-run", is_flag=True, help="Say what would be done; do nothing.")


def quiet(what: str) -> Decorator:
    """`-q`, which prints `what` only."""
    return click.option("-q", "--quiet", is_flag=True, help=f"Print {what} only.")


def split(values: tuple[str, ...]) -> list[str]:
    """The items of an option that may be repeated and may hold commas."""
    return [item.strip() for value in values for item in value.split(",") if item.strip()]


def pairs(values: tuple[str, ...], known: tuple[str, ...], option: str = "--filter") -> list[tuple[str, str]]:
    """`key=value` options as pairs. A usage error where one is of another form, or its key not `known`."""
    read = []
    for value in values:
        key, sign, rest = value.partition("=")
        if not sign or not rest:
            raise click.BadParameter(f"{value!r} is not of the form KEY=VALUE", param_hint=f"'{option}'")
        if key not in known:
            raise click.BadParameter(
                f"there is no filter {key!r}; there are {', '.join(known)}", param_hint=f"'{option}'"
            )
        read.append((key, rest))
    return read
