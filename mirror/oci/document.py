"""A manifest's bytes as JSON: of bounded size and depth, each member once.

Where two readers could differ in what a document says, it is refused (CVE-2021-41190).
"""

import json
from typing import Any

from mirror.errors import ManifestInvalid

DEPTH_LIMIT = 32
_CONTAINERS_LIMIT = 100_000
_COMMAS_LIMIT = 262_144

Object = dict[str, Any]


def decode(raw: bytes) -> Object:
    """The JSON object in `raw`, of bounded size and depth, each member once."""
    # Counted before anything is built: 4 MiB of `[],[],` would become 100 MB of lists.
    if raw.count(b"{") + raw.count(b"[") > _CONTAINERS_LIMIT or raw.count(b",") > _COMMAS_LIMIT:
        raise ManifestInvalid("the manifest has too many parts")
    try:
        # Decoded here, for json.loads would also take UTF-16, which Go's readers do not.
        body = _DECODER.decode(raw.decode())
    except (ValueError, RecursionError):
        raise ManifestInvalid("the manifest is not JSON in UTF-8") from None
    if not isinstance(body, dict):
        raise ManifestInvalid("the manifest is not a JSON object")
    _check_depth(body)
    return body


def _object(pairs: list[tuple[str, Any]]) -> Object:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ManifestInvalid("the manifest has a member twice: readers differ in which one counts")
    return members


def _no_constant(name: str) -> None:
    raise ManifestInvalid(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def _check_depth(body: Object) -> None:
    level: list[Any] = [body]
    for _ in range(DEPTH_LIMIT):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ManifestInvalid(f"the manifest is nested deeper than {DEPTH_LIMIT} levels")
