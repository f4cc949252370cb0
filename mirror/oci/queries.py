"""The query of a request to the registry API, decoded once, and what its parameters say.

Every reader raises the error that names the part which is wrong; what a parameter does not say is None.
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote_plus

from mirror.errors import DigestInvalid, ManifestInvalid, RequestInvalid
from mirror.oci.digest import ALGORITHMS, Digest
from mirror.oci.names import valid_tag

QUERY_LIMIT = 8192
TEXT_LIMIT = 256
"""Characters of `last` and `artifactType`, decoded: more than any tag, name or media type has."""

_COUNT = re.compile(r"[0-9]{1,18}")


def read(query: str) -> dict[str, str]:
    """The query, decoded once. Of a repeated parameter the first counts, as in Go; `ns` may not contradict itself."""
    if len(query) > QUERY_LIMIT or not query.isascii():
        raise RequestInvalid("the query is too long, or not ASCII")
    found: dict[str, str] = {}
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if "%" in pair or "+" in pair:
            key, value = unquote_plus(key), unquote_plus(value)
        if found.setdefault(key, value) != value and key == "ns":
            raise RequestInvalid("ns is given twice")  # a proxy in front might go by the other one
    return found


def digest(parameters: Mapping[str, str], key: str) -> Digest | None:
    text = parameters.get(key, "")
    return Digest.parse(text) if text else None


def algorithm(parameters: Mapping[str, str]) -> str | None:
    text = parameters.get("digest-algorithm", "")
    if text and text not in ALGORITHMS:
        raise DigestInvalid(f"digest-algorithm is none of {', '.join(ALGORITHMS)}")
    return text or None


def tags(query: str) -> tuple[str, ...]:
    """Every `tag` of a query, each once."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    found = dict.fromkeys(unquote_plus(value) for key, _, value in pairs if unquote_plus(key) == "tag")
    for tag in found:
        if not valid_tag(tag):
            raise ManifestInvalid(f"no tag can be called {tag[:TEXT_LIMIT]!r}")
    return tuple(found)


def count(parameters: Mapping[str, str], key: str = "n") -> int | None:
    text = parameters.get(key, "")
    if not text:
        return None
    if _COUNT.fullmatch(text) is None:
        raise RequestInvalid(f"{key} is not a number")
    return int(text)


def term(parameters: Mapping[str, str]) -> str:
    """What is searched for: any text that can be printed."""
    text = parameters.get("q", "")
    if len(text) > TEXT_LIMIT or not text.isprintable():
        raise RequestInvalid("q is too long, or has characters that cannot be printed")
    return text


def text_of(parameters: Mapping[str, str], key: str) -> str | None:
    text = parameters.get(key, "")
    if len(text) > TEXT_LIMIT or not (text.isascii() and text.isprintable()):
        raise RequestInvalid(f"{key} is too long, or has characters that it cannot have")
    return text or None
