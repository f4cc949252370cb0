"""Groups of verbs: found by name, imported when used, with docker's second names for some."""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click


class Place(NamedTuple):
    """Where a verb is: its module and its name there. `says` is the first sentence of its help, so that a list of
    verbs need not import them."""

    module: str
    name: str
    says: str


class Lazy(click.Group):
    """A group whose verbs stand in tables of places, one for each section of its help."""

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Mapping[str, Place]],
        aliases: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(*args, **more)
        self.sections = sections
        self._places = {verb: place for places in sections.values() for verb, place in places.items()}
        self._aliases = aliases or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self._places.get(self._aliases.get(cmd_name, cmd_name))
        if place is None:
            return None
        command = getattr(importlib.import_module(place.module), place.name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it; where there is no such verb, with those that are written alike."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self._places, n=2)
            if not near:
                raise
            hint = f" Did you mean {' or '.join(map(repr, near))}?"
            raise click.UsageError(error.message + hint, ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self._places))
        for section, places in self.sections.items():
            with formatter.section(section):
                formatter.write_dl([(verb.ljust(width), place.says) for verb, place in places.items()])


class Aliased(click.Group):
    """A group some of whose verbs have a second name."""

    def __init__(self, *args: Any, aliases: Mapping[str, str], **more: Any) -> None:
        super().__init__(*args, **more)
        self._aliases = aliases

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self._aliases.get(cmd_name, cmd_name))
