"""Loops: a mirror that is its own upstream, or two that are each other's.

Every request to an upstream carries `Mirror-Via`: this instance's id, and the ids that the request which caused it
came with. A mirror that finds its own id there answers 508 with `Mirror-Loop`, and the whole chain ends at once,
named, instead of running until something gives way.
"""

import re
from collections.abc import Mapping
from contextvars import ContextVar

VIA = "Mirror-Via"
LOOP = "Mirror-Loop"
LOOP_DETECTED = 508  # RFC 5842, 7.2

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST = 16

via: ContextVar[tuple[str, ...]] = ContextVar("via", default=())
"""The ids of the request being answered: the server sets it from the incoming header. A flight carries those of the
request that began it."""


def parse_via(header: str | None) -> tuple[str, ...]:
    """The ids of a `Mirror-Via` header; what is no id is left out, and so are more than 16."""
    ids = (part.strip() for part in (header or "").split(","))
    return tuple(part for part in ids if _ID.fullmatch(part))[:_LONGEST]


def via_header(instance: str) -> str:
    """What `Mirror-Via` says on a request sent now."""
    return ", ".join((instance, *via.get())[:_LONGEST])


def is_loop(status: int, headers: Mapping[str, str]) -> bool:
    """Whether this answer says that the request came back to where it began."""
    return status == LOOP_DETECTED and LOOP in headers
