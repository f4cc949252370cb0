"""Docker's filters for lists of images: `reference`, `label`, `before`, `since`, `until`, `dangling`.

Several values of `reference` are one or the other, all else has to hold together (moby, `daemon/images`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mirror.errors import RequestInvalid
from mirror.oci.names import DOCKER_HUB
from mirror.oci.patterns import pattern
from mirror.store.inventory import ImageRow

ZERO_TIME = datetime.fromisoformat("0001-01-01T00:00:00+00:00").timestamp()
"""When docker takes an image to be made whose config does not say it."""

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SINCE_1970 = re.compile(r"\d{1,12}(\.\d{1,9})?")
_TRUE = frozenset({"1", "t", "true"})
_FALSE = frozenset({"0", "f", "false"})


class NamePattern:
    """A shell pattern over names as docker prints them, `alpine` or `alpine:3.20` (distribution/reference,
    `FamiliarMatch`); one that begins with docker.io/ is over whole names, too. Raises `RequestInvalid`."""

    def __init__(self, text: str) -> None:
        self._matches = pattern(text)
        self._whole = text.startswith(f"{DOCKER_HUB}/")

    def matches(self, image: ImageRow, familiar: str) -> bool:
        """Whether it matches this image, whose repository is called `familiar`."""
        suffix = f":{image.tag}" if image.tag is not None else f"@{image.manifest}"
        names = [familiar, str(image.repository)] if self._whole else [familiar]
        return any(self._matches(name) or self._matches(name + suffix) for name in names)


@dataclass(frozen=True, slots=True)
class Filters:
    """What an image has to be. `before` and `since` name images; `until` is wall time. `labels` are keys, or keys and
    values."""

    references: tuple[NamePattern, ...] = ()
    labels: tuple[tuple[str, str | None], ...] = ()
    before: tuple[str, ...] = ()
    since: tuple[str, ...] = ()
    until: tuple[float, ...] = ()
    dangling: bool | None = None


def read(texts: Sequence[str], *, now: float) -> Filters:
    """Filters from `key=value` texts. Raises `RequestInvalid` for a key that there is not, and for a wrong value."""
    values: dict[str, list[str]] = {key: [] for key in ("reference", "label", "before", "since", "until", "dangling")}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or not value:
            raise RequestInvalid(f"invalid filter {text[:100]!r}: write it like key=value")
        if key not in values:
            raise RequestInvalid(f"invalid filter {key[:100]!r}: there are {', '.join(values)}")
        values[key].append(value)
    dangling = {_flag(value) for value in values["dangling"]}
    if len(dangling) > 1:
        raise RequestInvalid("dangling cannot be true and false")
    return Filters(
        references=tuple(map(NamePattern, values["reference"])),
        labels=tuple(map(_label, values["label"])),
        before=tuple(values["before"]),
        since=tuple(values["since"]),
        until=tuple(moment(value, now=now) for value in values["until"]),
        dangling=next(iter(dangling), None),
    )


def instant(text: str | None) -> float:
    """Wall time of an RFC 3339 timestamp, `ZERO_TIME` for none and for what is no time."""
    try:
        read = datetime.fromisoformat(text) if text else None
        return read.timestamp() if read is not None and read.year > 1 else ZERO_TIME
    except (ValueError, OverflowError):
        return ZERO_TIME


def moment(text: str, *, now: float) -> float:
    """Wall time of a time, of a span before now, or of seconds since 1970: `2025-01-31`, `10d`, `1h30m`, `1700000000`.

    A time without a zone is this machine's. Raises `RequestInvalid`.
    """
    spans = _SPAN.findall(text)
    if spans and "".join(count + unit for count, unit in spans) == text:
        return now - sum(float(count) * _SECONDS[unit] for count, unit in spans)
    if _SINCE_1970.fullmatch(text):
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise RequestInvalid(
            f"{text[:100]!r} is no time and no span: write 2025-01-31, 2025-01-31T10:00:00Z, 10d, 12h or 1h30m"
        ) from None


def _label(text: str) -> tuple[str, str | None]:
    key, sign, value = text.partition("=")
    return key, value if sign else None


def _flag(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise RequestInvalid(f"dangling is true or false, not {text[:100]!r}")
