"""Shell patterns over names, as docker's filters have them (Go's `path.Match`).

pattern:    { term }
term:       '*'         matches any sequence of non-/ characters
            '?'         matches any single non-/ character
            '[' [ '^' ] { character-range } ']'
            c           matches character c (c != '*', '?', '\\', '[')
            '\\' c      matches character c
character-range:
            c           matches character c (c != '\\', '-', ']')
            '\\' c      matches character c
            lo '-' hi   matches character c for lo <= c <= hi
"""

import re
from collections.abc import Callable
from typing import Final

from mirror.errors import RequestInvalid

_LIMIT: Final = 512  # characters; more than any name has
_SPECIAL = frozenset("*?[\\")


def is_pattern(text: str) -> bool:
    """Whether anything in it is not meant literally."""
    return not _SPECIAL.isdisjoint(text)


def pattern(text: str) -> Callable[[str], bool]:
    """A function that says of a name whether it matches, whole. Raises `RequestInvalid` for what is no pattern."""
    if len(text) > _LIMIT:
        raise RequestInvalid(f"a pattern of more than {_LIMIT} characters")
    compiled = re.compile(_Reader(text).expression(), re.DOTALL)
    return lambda name: compiled.fullmatch(name) is not None


class _Reader:
    """Reads a pattern, left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def expression(self) -> str:
        """The pattern as a regular expression. Whatever follows a star and stands before another one is matched where
        it comes first, for good: another place would help nothing, and trying them all takes for ever."""
        chunks = [""]
        while self._at < len(self._text):
            character = self._next()
            if character == "*":
                if chunks[-1] or len(chunks) == 1:  # two stars are one
                    chunks.append("")
            elif character == "?":
                chunks[-1] += "[^/]"
            elif character == "[":
                chunks[-1] += self._range()
            else:
                chunks[-1] += re.escape(self._next() if character == "\\" else character)
        first, *others = chunks
        if not others:
            return first
        return first + "".join(f"(?>[^/]*?{chunk})" for chunk in others[:-1]) + f"[^/]*{others[-1]}"

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise RequestInvalid(f"syntax error in pattern: {self._text}")
        self._at += 1
        return self._text[self._at - 1]

    def _range(self) -> str:
        negated = self._text.startswith("^", self._at)
        self._at += negated
        members: list[str] = []
        while not members or not self._text.startswith("]", self._at):
            low = self._member()
            high = low
            if self._text.startswith("-", self._at):
                self._at += 1
                high = self._member()
            if low <= high:  # else it matches nothing, as in Go
                members.append(f"{re.escape(low)}-{re.escape(high)}")
            else:
                members.append("")
        self._at += 1
        body = "".join(members)
        if not body:
            return "[^/]" if negated else "(?!)"
        return f"(?!/)[^{body}]" if negated else f"(?!/)[{body}]"

    def _member(self) -> str:
        character = self._next()
        if character in "-]":
            raise RequestInvalid(f"syntax error in pattern: {self._text}")
        return self._next() if character == "\\" else character
