"""The part of Go's text/template that people write in `--format` (https://pkg.go.dev/text/template).

    {{.Field.Below}}  {{.}}  {{$name}}                       values; text between actions stays as it is
    {{if V}}…{{else if V}}…{{else}}…{{end}}
    {{range V}}…{{else}}…{{end}}  {{range $k, $v := V}}…{{end}}  {{with V}}…{{end}}
    {{json V}} {{upper V}} {{lower V}} {{title V}} {{len V}} {{index V "key" 0}} {{join V ", "}} {{split V ","}}
    {{truncate V 9}} {{pad V 1 1}} {{print V …}} {{println V …}} {{printf "%-9s" V …}} {{eq V V}} {{ne V V}}
    {{not V}} {{and V V}} {{or V V}} {{V | upper}} {{(index V 0).Field}} {{- trimmed -}} {{/* comment */}}

What a template prints of a value is escaped (`output.escape`); its own text is not.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mirror.cli.template_functions import FUNCTIONS, Safe, TemplateError, below, shown

_ACTION = re.compile(
    r"\{\{(?P<left>-\s)?(?P<body>(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|/\*.*?\*/|(?!\s-\}\}|\}\})[^\"`])*)(?P<right>\s-)?\}\}",
    re.DOTALL,
)
_TOKEN = re.compile(
    r"\s*(?:(?P<string>\"(?:\\.|[^\"\\])*\"|`[^`]*`)|(?P<number>-?\d+)|(?P<variable>\$\w*)"
    r"|(?P<field>\.\w+)|(?P<word>[A-Za-z_]\w*)|(?P<sign>:=|[.|(),]))"
)
_WORDS: Mapping[str, Any] = MappingProxyType({"true": True, "false": False, "nil": None})

Scope = Mapping[str, Any]  # variables; "" is the value a template began with, "." the one that it is at
Operand = Callable[[Scope], Any]
Node = Callable[[Scope], Iterator[str]]


# --- reading ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tokens:
    """The words of one action."""

    body: str
    found: list[tuple[str, str, bool]] = field(default_factory=list)  # kind, text, whether a space came before
    place: int = 0

    def __post_init__(self) -> None:
        at, body = 0, self.body.rstrip()
        while at < len(body):
            match = _TOKEN.match(body, at)
            if match is None or match.lastgroup is None:
                raise TemplateError(f"{{{{{self.body}}}}}: cannot be read from {body[at:].strip()!r} on")
            self.found.append((match.lastgroup, match[match.lastgroup], match.start(match.lastgroup) > at))
            at = match.end()

    def peek(self) -> tuple[str, str, bool]:
        return self.found[self.place] if self.place < len(self.found) else ("end", "", True)

    def next(self) -> tuple[str, str, bool]:
        token = self.peek()
        self.place += 1
        return token

    def take(self, text: str) -> bool:
        """Whether the next word is this; if so it is passed."""
        if self.peek()[1] != text or self.peek()[0] == "string":
            return False
        self.place += 1
        return True

    def wrong(self, what: str) -> TemplateError:
        return TemplateError(f"{{{{{self.body}}}}}: {what}")


def _pipeline(tokens: _Tokens) -> Operand:
    value = _command(tokens, None)
    while tokens.take("|"):
        value = _command(tokens, value)
    return value


def _command(tokens: _Tokens, piped: Operand | None) -> Operand:
    kind, text, _ = tokens.peek()
    if kind == "word" and text not in _WORDS:
        tokens.next()
        if text not in FUNCTIONS:
            raise tokens.wrong(f"there is no function {text!r}; there are {', '.join(sorted(FUNCTIONS))}")
        arguments = []
        while tokens.peek()[0] != "end" and tokens.peek()[1] not in ("|", ")"):
            arguments.append(_operand(tokens))
        return _call(tokens, text, [*arguments, piped] if piped else arguments)
    if piped is not None:
        raise tokens.wrong("a function is needed after |")
    value = _operand(tokens)
    if tokens.peek()[0] != "end" and tokens.peek()[1] not in ("|", ")"):
        raise tokens.wrong(f"{tokens.peek()[1]!r} stands where nothing can")
    return value


def _call(tokens: _Tokens, name: str, arguments: Sequence[Operand]) -> Operand:
    function = FUNCTIONS[name]

    def call(scope: Scope) -> Any:
        try:
            return function(*[argument(scope) for argument in arguments])
        except (TypeError, ValueError, OverflowError) as error:
            raise tokens.wrong(f"{name} cannot be used like this") from error

    return call


def _operand(tokens: _Tokens) -> Operand:
    kind, text, _ = tokens.next()
    value: Operand
    if kind == "field":
        value = _field(_dot, text[1:])
    elif kind == "variable":
        value = _variable(tokens, text[1:])
    elif kind in ("string", "number") or (kind == "word" and text in _WORDS):
        value = _constant(_literal(tokens, kind, text))
    elif text == ".":
        value = _dot
    elif text == "(":
        value = _pipeline(tokens)
        if not tokens.take(")"):
            raise tokens.wrong("a ) is missing")
    else:
        raise tokens.wrong(f"{text!r} is no value" if text else "a value is missing")
    while tokens.peek()[0] == "field" and not tokens.peek()[2]:
        value = _field(value, tokens.next()[1][1:])
    return value


def _literal(tokens: _Tokens, kind: str, text: str) -> Any:
    if kind == "word":
        return _WORDS[text]
    if kind == "number":
        return int(text)
    if text.startswith("`"):
        return Safe(text[1:-1])
    try:
        return Safe(json.loads(text, strict=False))
    except ValueError as error:
        raise tokens.wrong(f"{text} has an escape that is none") from error


def _dot(scope: Scope) -> Any:
    return scope["."]


def _constant(value: Any) -> Operand:
    return lambda _: value


def _variable(tokens: _Tokens, name: str) -> Operand:
    def variable(scope: Scope) -> Any:
        if name not in scope:
            raise tokens.wrong(f"there is no variable ${name}")
        return scope[name]

    return variable


def _field(value: Operand, name: str) -> Operand:
    return lambda scope: below(value(scope), name)


# --- blocks -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Parts:
    """A template taken apart: text, and what stands between the braces."""

    found: list[tuple[str, str]]  # "text" or "action", and it
    place: int = 0

    @classmethod
    def of(cls, source: str) -> "_Parts":
        found: list[tuple[str, str]] = []
        at, trim = 0, False
        while (start := source.find("{{", at)) >= 0:
            action = _ACTION.match(source, start)
            if action is None:
                raise TemplateError(f"unclosed action: {source[start:]}")
            text = source[at:start].lstrip() if trim else source[at:start]
            found.append(("text", text.rstrip() if action["left"] else text))
            found.append(("action", action["body"].strip()))
            at, trim = action.end(), action["right"] is not None
        found.append(("text", source[at:].lstrip() if trim else source[at:]))
        return cls(found)

    def next(self) -> tuple[str, str] | None:
        self.place += 1
        return self.found[self.place - 1] if self.place <= len(self.found) else None


def _block(parts: _Parts, opened: str | None) -> tuple[Node, str]:
    """What stands up to `{{end}}` or `{{else …}}`, and the rest of that action; up to the template's own end where
    nothing was `opened`."""
    nodes: list[Node] = []
    while (part := parts.next()) is not None:
        kind, text = part
        word, _, rest = text.partition(" ")
        if kind == "text":
            nodes.append(_text(text))
        elif text.startswith("/*"):
            continue
        elif word in ("end", "else"):
            if opened is None:
                raise TemplateError(f"{{{{{text}}}}} closes nothing")
            return _sequence(nodes), text
        elif word in _BLOCKS:
            nodes.append(_BLOCKS[word](parts, rest.strip()))
        else:
            nodes.append(_action(text))
    if opened is not None:
        raise TemplateError(f"{{{{{opened}}}}} has no {{{{end}}}}")
    return _sequence(nodes), ""


def _alternatives(parts: _Parts, opened: str) -> tuple[Node, Node]:
    """The body of a block that was `opened`, and what follows its `{{else}}`."""
    body, closing = _block(parts, opened)
    if closing == "end":
        return body, _text("")
    condition = closing.removeprefix("else").strip()
    if condition.startswith("if "):
        return body, _if(parts, condition[3:].strip())
    if condition or closing != "else":
        raise TemplateError(f"{{{{{closing}}}}} cannot be read")
    otherwise, closing = _block(parts, opened)
    if closing != "end":
        raise TemplateError(f"{{{{{opened}}}}} has a second {{{{else}}}}")
    return body, otherwise


def _whole(text: str) -> Operand:
    tokens = _Tokens(text)
    value = _pipeline(tokens)
    if tokens.peek()[0] != "end":
        raise tokens.wrong(f"{tokens.peek()[1]!r} stands where nothing can")
    return value


def _action(text: str) -> Node:
    value = _whole(text)
    return lambda scope: iter((shown(value(scope)),))


def _text(text: str) -> Node:
    return lambda _: iter((text,))


def _sequence(nodes: Sequence[Node]) -> Node:
    return lambda scope: (piece for node in nodes for piece in node(scope))


def _if(parts: _Parts, condition: str) -> Node:
    value = _whole(condition)
    body, otherwise = _alternatives(parts, f"if {condition}")
    return lambda scope: body(scope) if value(scope) else otherwise(scope)


def _with(parts: _Parts, condition: str) -> Node:
    value = _whole(condition)
    body, otherwise = _alternatives(parts, f"with {condition}")

    def node(scope: Scope) -> Iterator[str]:
        found = value(scope)
        return body({**scope, ".": found}) if found else otherwise(scope)

    return node


def _range(parts: _Parts, text: str) -> Node:
    names, assigned, source = text.rpartition(":=")
    variables = [name.strip() for name in names.split(",")] if assigned else []
    if len(variables) > 2 or not all(re.fullmatch(r"\$\w+", name) for name in variables):
        raise TemplateError(f"{{{{range {text}}}}}: $key, $value := is needed before what is gone through")
    value = _whole(source.strip())
    body, otherwise = _alternatives(parts, f"range {text}")

    def node(scope: Scope) -> Iterator[str]:
        entries = _entries(value(scope), text)
        if not entries:
            yield from otherwise(scope)
        for key, entry in entries:
            given = (key, entry) if len(variables) == 2 else (entry,)
            yield from body({**scope, **{name[1:]: it for name, it in zip(variables, given, strict=False)}, ".": entry})

    return node


def _entries(value: Any, text: str) -> list[tuple[Any, Any]]:
    match value:
        case None:
            return []
        case Mapping():
            return [(key, value[key]) for key in sorted(value)]
        case list() | tuple():
            return list(enumerate(value))
        case _:
            raise TemplateError(f"{{{{range {text}}}}}: {shown(value)[:60]} cannot be gone through")


_BLOCKS: Mapping[str, Callable[[_Parts, str], Node]] = MappingProxyType({"if": _if, "range": _range, "with": _with})


class Template:
    """A template that was read. Raises `TemplateError` where it cannot be."""

    def __init__(self, source: str) -> None:
        self._node, _ = _block(_Parts.of(source), None)

    def fill(self, value: Any) -> str:
        """The text for `value`. Raises `TemplateError` where it has not what the template names."""
        return "".join(self._node({"": value, ".": value}))
