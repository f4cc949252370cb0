"""`WWW-Authenticate`: what a registry wants to be shown (RFC 9110, section 11.6.1).

    WWW-Authenticate = #challenge
    challenge        = auth-scheme [ 1*SP ( token68 / #auth-param ) ]
    auth-param       = token BWS "=" BWS ( token / quoted-string )
    token68          = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="

The comma parts challenges as well as parameters, so this is read from left to right, each step deciding by
what follows the next token. Registries write it badly (unquoted URLs, missing commas, a quote that never
closes); what cannot be understood is skipped, for the challenge beside it may be the one that works.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

HEADERS_LIMIT = 32
HEADER_LIMIT = 8192
CHALLENGES_LIMIT = 32
PARAMETERS_LIMIT = 32

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SEPARATORS = re.compile(r"[ \t,]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_BARE = re.compile(r"[^ \t,]*")
_TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|\Z))")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate. Scheme and names of parameters are in lower case, values as they came.

    A token68 is not kept: no scheme a registry uses needs it.
    """

    scheme: str
    parameters: Mapping[str, str] = field(hash=False)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """All challenges of all `WWW-Authenticate` lines, in order. Never raises; skips what it does not understand.

    Of a parameter given twice the first counts. Lines beyond `HEADERS_LIMIT` or longer than `HEADER_LIMIT`
    characters, and what else is beyond the limits above, are left out.
    """
    found: list[Challenge] = []
    for number, header in enumerate(headers):
        if number >= HEADERS_LIMIT or len(found) >= CHALLENGES_LIMIT:
            break
        if len(header) <= HEADER_LIMIT:
            found.extend(_challenges(header))
    return found[:CHALLENGES_LIMIT]


def _challenges(header: str) -> Iterator[Challenge]:
    scheme: str | None = None
    parameters: dict[str, str] = {}
    for name, value in _pieces(header):
        if value is None:
            if scheme is not None:
                yield Challenge(scheme, MappingProxyType(parameters))
            scheme, parameters = name, {}
        elif scheme is not None and len(parameters) < PARAMETERS_LIMIT and value.isprintable():
            parameters.setdefault(name, value)
    if scheme is not None:
        yield Challenge(scheme, MappingProxyType(parameters))


def _pieces(header: str) -> Iterator[tuple[str, str | None]]:
    """The header as (parameter, value) and (scheme, None), in order. Every step moves on."""
    position = 0
    while True:
        start, position = position, _skip(_SEPARATORS, header, position)
        fresh = start == 0 or "," in header[start:position]  # a scheme stands nowhere else
        token = _TOKEN.match(header, position)
        if token is None:
            if position == len(header):
                return
            position = _skip(_BARE, header, position)  # not empty: it stands on no separator
            continue
        name, position = token[0].lower(), token.end()
        equals = _EQUALS.match(header, position)
        if equals is not None:
            value, position = _value(header, equals.end())
            yield name, value
        elif fresh and (position == len(header) or header[position] in " \t,"):
            yield name, None
            position = _after_token68(header, position)
        else:
            position = _skip(_BARE, header, position)


def _value(header: str, position: int) -> tuple[str, int]:
    """A parameter's value, and where it ends. A quote that never closes is taken for a stray character."""
    quoted = _QUOTED.match(header, position)
    if quoted is not None:
        return _ESCAPED.sub(r"\1", quoted[1]), quoted.end()
    end = _skip(_BARE, header, position)
    return header[position:end].strip('"'), end


def _after_token68(header: str, position: int) -> int:
    """Past the token68 that may follow a scheme: it may end in `=`, and then looks like a parameter."""
    token68 = _TOKEN68.match(header, position)
    return position if token68 is None else token68.end()


def _skip(pattern: re.Pattern[str], header: str, position: int) -> int:
    match = pattern.match(header, position)
    return position if match is None else match.end()
