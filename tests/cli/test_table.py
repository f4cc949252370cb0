import json
from collections.abc import Iterator

import click
import pytest

from mirror.cli import output, table
from mirror.cli.table import Field, View, cut, uncut

VIEW = View([Field("Name", "NAME", lambda row: str(row["name"])), Field("Size", "SIZE", lambda row: "1kB")], ["Name"])
ROWS = [{"name": "a", "size": 1}, {"name": "b\x1b", "size": 2}]


def shown(form: str, capsys: pytest.CaptureFixture[str]) -> str:
    VIEW.show(ROWS, form)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("table", "NAME\na\nb\\x1b\n"),
        (" table ", "NAME\na\nb\\x1b\n"),
        ("table {{.Name}}\\t{{.Size}}", "NAME      SIZE\na         1kB\nb\\x1b     1kB\n"),
        ("{{.Name}}\\t{{.Size}}", "a\t1kB\nb\\x1b\t1kB\n"),
        ("{{json .}}", '{"Name":"a","Size":"1kB"}\n{"Name":"b\\u001b","Size":"1kB"}\n'),
        ("jsonl", '{"name": "a", "size": 1}\n{"name": "b\\u001b", "size": 2}\n'),
    ],
)
def test_forms(form: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(form, capsys) == text


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(shown("json", capsys)) == ROWS


@pytest.mark.parametrize("form", ["yaml", "", "table x", "{{.Nothing}}", "table {{", "{{.Name"])
def test_a_form_that_is_none_is_refused_before_a_row_is_asked_for(form: str) -> None:
    def rows() -> Iterator[dict[str, object]]:
        raise AssertionError("asked")
        yield {}

    with pytest.raises(click.BadParameter) as caught:
        VIEW.show(rows(), form)
    assert caught.value.exit_code == 2


def test_lines_are_written_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(output, "result", written.append)
    monkeypatch.setattr(table, "_WRITTEN", 2)
    VIEW.show([{"name": number} for number in range(5)], "{{.Name}}")
    assert written == ["0\n1", "2\n3", "4"]


def test_texts_are_cut_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cut("abcdef", 4, whole=False) == "abc…"
    assert cut("abcd", 4, whole=False) == "abcd"
    assert cut("abcdef", 4, whole=True) == "abcdef"
    assert uncut(no_trunc=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert not uncut(no_trunc=False)
    assert uncut(no_trunc=True)
