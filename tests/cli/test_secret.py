import getpass
import sys
from typing import Any

import click
import pytest

from mirror.cli import secret
from mirror.errors import RequestInvalid


class Stdin:
    """A terminal where a person types."""

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.lines.pop(0)


def typing(monkeypatch: pytest.MonkeyPatch, *passwords: str | BaseException) -> list[tuple[str, Any]]:
    left, asked = list(passwords), []

    def hidden(prompt: str, stream: Any) -> str:
        asked.append((prompt, stream))
        answer = left.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(getpass, "getpass", hidden)
    return asked


def test_a_person_is_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(" me \n"))
    asked = typing(monkeypatch, "pa:ss word")
    assert secret.username(None, stdin_taken=False) == "me"
    assert secret.password(from_stdin=False) == "pa:ss word"
    assert [prompt for prompt, _ in asked] == ["Password: "]
    assert asked[0][1] is sys.stderr
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "Username: ")


def test_a_new_password_is_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin())
    asked = typing(monkeypatch, "a", "a", "a", "b")
    assert secret.password(from_stdin=False, confirm=True) == "a"
    with pytest.raises(RequestInvalid, match="not the same"):
        secret.password(from_stdin=False, confirm=True)
    assert len(asked) == 4


@pytest.mark.parametrize("answer", ["", EOFError()])
def test_nothing_is_no_password(monkeypatch: pytest.MonkeyPatch, answer: str | BaseException) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin())
    typing(monkeypatch, answer)
    with pytest.raises(RequestInvalid, match="a password is required"):
        secret.password(from_stdin=False, confirm=True)


def test_a_name_that_was_given_is_not_asked_for() -> None:
    assert secret.username("me", stdin_taken=True) == "me"


@pytest.mark.parametrize(("given", "says"), [("", "a user name is required"), ("a:b", "cannot hold a colon")])
def test_names_that_cannot_be(given: str, says: str) -> None:
    with pytest.raises(RequestInvalid, match=says):
        secret.username(given, stdin_taken=False)


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stdin, "isatty", lambda _: False)
    monkeypatch.setattr(sys, "stdin", Stdin())
    with pytest.raises(click.UsageError, match="Must provide --username with --password-stdin"):
        secret.username(None, stdin_taken=True)
    with pytest.raises(click.UsageError, match="Cannot perform an interactive login from a non TTY device"):
        secret.username(None, stdin_taken=False)
    with pytest.raises(click.UsageError, match="Cannot perform an interactive login from a non TTY device"):
        secret.password(from_stdin=False)
    with pytest.raises(click.UsageError, match=r"non TTY device: give --password-stdin\.$"):
        secret.password(from_stdin=False, confirm=True)
