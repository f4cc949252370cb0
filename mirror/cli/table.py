"""Lists as people ask for them with `--format`: docker's table, JSON, JSON lines, or a Go template.

JSON holds what the mirror's API answered: bytes, seconds, canonical names. A template and the table's columns see
docker's fields, which are words for people: `{{.Size}}` is `41.2MB`.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import click

from mirror.cli import output
from mirror.cli.fields import Row

_TABLE, _JSON, _LINES = "table", "json", "jsonl"
_WRITTEN = 1000  # lines at once


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a list: its name in templates, its column's header, and its text."""

    name: str
    header: str
    text: Callable[[Row], str]


class View:
    """How the rows of a list are shown. `columns` are the fields of its table, in their order."""

    def __init__(self, fields: Sequence[Field], columns: Sequence[str]) -> None:
        self._fields = {field.name: field for field in fields}
        self._columns = [self._fields[name] for name in columns]

    def show(self, rows: Iterable[Row], form: str) -> None:
        """Print `rows`. A usage error where `form` is none that this list has, before the first row is asked for."""
        form = form.strip()
        if form == _JSON:
            output.result_json(list(rows))
        elif form == _LINES:
            _write(json.dumps(row, ensure_ascii=True).replace("\x7f", "\\u007f") for row in rows)
        elif form == _TABLE:
            cells = ([field.text(row) for field in self._columns] for row in rows)
            output.result(output.table([field.header for field in self._columns], cells))
        else:
            self._fill(rows, form)

    def _fill(self, rows: Iterable[Row], form: str) -> None:
        word, _, source = form.partition(" ")
        as_table = word == _TABLE
        source = (source if as_table else form).replace("\\t", "\t").replace("\\n", "\n")
        if "{{" not in source:
            raise _wrong(f"{form!r} is not one of table, json, jsonl, and no template: nothing in it is in {{{{ }}}}")
        from mirror.cli.template import Template
        from mirror.cli.template_functions import TemplateError

        try:
            template = Template(source)
            headers = template.fill({name: field.header for name, field in self._fields.items()})
            lines = (template.fill(_Fields(self._fields, row)) for row in rows)
            if as_table:
                output.result(output.align([line.split("\t") for line in chain([headers], lines)]))
            else:
                _write(lines)
        except TemplateError as error:
            raise _wrong(str(error)) from error


class _Fields(Mapping[str, str]):
    """The fields of one row, worked out when they are asked for."""

    def __init__(self, fields: Mapping[str, Field], row: Row) -> None:
        self._fields = fields
        self._row = row

    def __getitem__(self, name: str) -> str:
        return self._fields[name].text(self._row)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def cut(text: str, limit: int, *, whole: bool) -> str:
    """Docker's way to shorten a text: an ellipsis in place of its last characters."""
    return text if whole or len(text) <= limit else text[: limit - 1] + "…"


def uncut(*, no_trunc: bool) -> bool:
    """Whether texts are shown whole: where that was asked for, and where no person reads them from a screen."""
    return no_trunc or not sys.stdout.isatty()


def check(mark: object) -> str:
    """Docker's word for yes in a column."""
    return "[OK]" if mark is True else ""


def _write(lines: Iterable[str]) -> None:
    """As they come, though not one by one: every write is flushed."""
    rest = iter(lines)
    while batch := list(islice(rest, _WRITTEN)):
        output.result("\n".join(batch))


def _wrong(message: str) -> click.BadParameter:
    return click.BadParameter(output.escape(message), param_hint="'--format'")
