"""What operations that take long tell while they go on: one event after the other, the last one an `End`.

Events are what a person's program reads (`/api/v1/`, JSON lines): plain texts and numbers, sizes in bytes, times in
wall seconds. Each carries its own name in `event`.
"""

from dataclasses import dataclass
from typing import Literal

from mirror.errors import MirrorError


@dataclass(frozen=True, slots=True)
class Note:
    """Something to know about an item that is no failure."""

    name: str
    message: str
    event: Literal["note"] = "note"


@dataclass(frozen=True, slots=True)
class Failed:
    """One item could not be done; the others go on. `exit_code` is the command line's (README, "Exit codes")."""

    name: str
    code: str
    message: str
    exit_code: int
    event: Literal["error"] = "error"


@dataclass(frozen=True, slots=True)
class End:
    """Everything was tried."""

    ok: int
    failed: int
    event: Literal["end"] = "end"


def failed(name: str, error: MirrorError) -> Failed:
    """The event that says why `name` could not be done."""
    return Failed(name, error.code, error.message, error.exit_code)
