"""Time, in one place, so that tests can move it.

Deadlines in memory run on the monotonic clock; what is written down is wall time, and is believed after a
restart only while `0 <= age < limit` (design.md §6).
"""

import time
from dataclasses import dataclass


@dataclass(slots=True)
class Clock:
    """The machine's two clocks. `shift` and `wall_shift` move them; only tests do."""

    shift: float = 0.0
    wall_shift: float = 0.0

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never go back."""
        return time.monotonic() + self.shift

    def wall(self) -> float:
        """Seconds since 1970, as the machine believes them now."""
        return time.time() + self.wall_shift

    def age(self, written_at: float) -> float | None:
        """How many seconds ago `written_at` (wall time) was, or None if it lies in the future."""
        age = self.wall() - written_at
        return age if age >= 0 else None
