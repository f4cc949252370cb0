import json
from typing import Any

import pytest

from mirror.cli.template import Template
from mirror.cli.template_functions import FUNCTIONS, shown

VALUE: dict[str, Any] = {"s": "Some text", "l": ["b", "a\n"], "m": {"k": "v"}, "n": 7, "no": None, "e": ""}

#: Function → a template that uses it, and what it prints.
USED = {
    "json": ("{{json .}}", json.dumps(VALUE, sort_keys=True, separators=(",", ":"))),
    "upper": ("{{upper .s}}", "SOME TEXT"),
    "lower": ("{{lower .s}}", "some text"),
    "title": ("{{title .s}}", "Some Text"),
    "len": ("{{len .s}}{{len .l}}{{len .m}}", "921"),
    "index": ("{{index .l 0}}{{index .m `k`}}{{index .m `none`}}", "bv<no value>"),
    "join": ('{{join .l "\\n"}}', "b\na\\x0a"),
    "split": ("{{split .s ` `}} {{len (split .s ``)}}", "[Some text] 9"),
    "truncate": ("{{truncate .s 4}}", "Some"),
    "pad": ("[{{pad .s 1 2}}][{{pad .e 1 1}}]", "[ Some text  ][]"),
    "print": ("{{print .n .s}}", "7Some text"),
    "println": ("{{println .n .s}}", "7 Some text\n"),
    "printf": (
        '{{printf "%5d|%-3v|%05d|%.4s|%q|%%|%s" .n .n .n .s .s}}',
        '    7|7  |00007|Some|"Some text"|%|%!s(MISSING)',
    ),
    "eq": ("{{eq .n 7}}{{eq .n 1 2 7}}{{eq .s `x`}}", "truetruefalse"),
    "ne": ("{{ne .n 7}}", "false"),
    "not": ("{{not .no}}", "true"),
    "and": ("{{and .n .s}}{{and .e .s}}", "Some text"),
    "or": ("{{or .e .s}}{{or .e .no}}", "Some text<no value>"),
}


def test_every_function_is_used_here() -> None:
    assert set(USED) == set(FUNCTIONS)


@pytest.mark.parametrize("name", USED)
def test_it_does_what_dockers_does(name: str) -> None:
    source, filled = USED[name]
    assert Template(source).fill(VALUE) == filled


def test_json_is_safe_on_a_terminal() -> None:
    text = Template("{{json .}}").fill({"a": "\x1b\x7f\x9b\u202e"})
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize(
    ("value", "text"), [(1.5, "1.5"), (False, "false"), ({"a": None}, "map[a:<no value>]"), (("x",), "[x]")]
)
def test_values_as_go_shows_them(value: object, text: str) -> None:
    assert shown(value) == text
