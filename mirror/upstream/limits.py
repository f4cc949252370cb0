"""What registries say about how much may be asked of them.

`Retry-After` (RFC 9110, 10.2.3) and Docker Hub's `ratelimit-limit: 100;w=21600`, `ratelimit-remaining: 76;w=21600`
(docs.docker.com, "Docker Hub usage and limits").
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

DEFAULT_REST = 60.0
LONGEST_REST = 6 * 3600.0
_SHORTEST_REST = 1.0

_QUOTA = re.compile(r"\s*([0-9]{1,9})\s*(?:;|,|$)")
_SECONDS = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Quota:
    """How many pulls are left, of how many; None where it was not said."""

    left: int | None = None
    limit: int | None = None


def rest_seconds(header: str | None, wall: float) -> float:
    """How long to send nothing after a 429: `Retry-After` in seconds or as a date, between 1 s and 6 h.

    60 s where it is missing or unreadable. `wall` is the time now, for a date.
    """
    text = (header or "").strip()
    if _SECONDS.fullmatch(text):
        return _clamp(float(text))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return DEFAULT_REST
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _clamp(moment.timestamp() - wall)


def parse_quota(headers: Mapping[str, str]) -> Quota | None:
    """What an answer says about pulls, None where it says nothing."""
    left, limit = (_number(headers.get(name)) for name in ("ratelimit-remaining", "ratelimit-limit"))
    return None if left is None and limit is None else Quota(left, limit)


def _number(header: str | None) -> int | None:
    match = _QUOTA.match(header or "")
    return int(match[1]) if match else None


def _clamp(seconds: float) -> float:
    return min(max(seconds, _SHORTEST_REST), LONGEST_REST)
