"""Platforms as docker writes, normalizes and matches them (containerd `platforms`: `Parse`, `Normalize`, `Only`).

    <os>|<arch>|<os>/<arch>[/<variant>]

`linux/amd64` takes also what runs there: an older variant, `linux/386`. `linux/arm64` takes `linux/arm/v8` and below.
"""

import json
import platform as machine
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from mirror.errors import RequestInvalid

K = TypeVar("K")

ALL = "all"

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MOST_PARTS = 3
_OLDEST_ARM = 5
_SYSTEMS = frozenset(
    {
        "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl", "netbsd",
        "openbsd", "plan9", "solaris", "wasip1", "windows", "zos",
    }
)  # fmt: skip
_ALIASES = {"i386": "386", "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
_ARM_ALIASES = {"armhf": "v7", "armv7l": "v7", "armv8l": "v7", "armel": "v6", "armv6l": "v6", "armv5tel": "v5"}
_MACHINES = {"i486": "386", "i586": "386", "i686": "386", "loongarch64": "loong64", "mips64": "mips64le"}


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """An operating system, an architecture, and a variant where it has one; normalized, so that two that docker takes
    for the same are equal."""

    system: str
    architecture: str
    variant: str = ""

    @classmethod
    def of(cls, system: str, architecture: str, variant: str = "") -> Self:
        """From what a manifest, a config or a person says."""
        system, architecture, variant = system.lower(), architecture.lower(), variant.lower()
        if architecture in _ARM_ALIASES:
            architecture, variant = "arm", variant or _ARM_ALIASES[architecture]
        architecture = _ALIASES.get(architecture, architecture)
        if variant.isdigit() and architecture in ("arm", "arm64"):
            variant = f"v{variant}"
        if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1"), ("arm64", "v8.0")):
            variant = ""
        if (architecture, variant) == ("arm", ""):
            variant = "v7"
        return cls("darwin" if system == "macos" else system, architecture, variant)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a person writes; what is left out is this machine's. Raises `RequestInvalid`."""
        parts = text.split("/")
        if len(parts) > _MOST_PARTS or not all(_PART.fullmatch(part) for part in parts):
            raise RequestInvalid(f"{text[:100]!r} is no platform: write it like linux/arm64 or linux/arm/v7, or all")
        if len(parts) > 1:
            return cls.of(*parts)
        word = parts[0].lower()
        own = host()
        if word in _SYSTEMS or word == "macos":
            return cls.of(word, own.architecture, own.variant)
        return cls.of("linux", word)

    def accepted(self) -> Iterator["Platform"]:
        """What serves where this one is wanted, the best first."""
        yield self
        if self.architecture == "amd64":
            for number in range(_number(self.variant) - 1, 0, -1):
                yield Platform.of(self.system, "amd64", f"v{number}")
            yield Platform.of(self.system, "386")
        elif self.architecture == "arm":
            for number in range(_number(self.variant) - 1, _OLDEST_ARM - 1, -1):
                yield Platform.of(self.system, "arm", f"v{number}")
        elif self.architecture == "arm64":
            if self.variant:
                yield Platform.of(self.system, "arm64")
            yield from Platform.of(self.system, "arm", "v8").accepted()

    def __str__(self) -> str:
        parts = [self.system, self.architecture]
        return "/".join([*parts, self.variant] if self.variant else parts)


def host() -> Platform:
    """Which images this machine runs: Linux ones, whatever it is."""
    name = machine.machine().lower()
    return Platform.of("linux", _MACHINES.get(name, name))


def wanted(texts: Sequence[str]) -> tuple[Platform, ...] | None:
    """The platforms that are asked for, each once; None for all there are. Raises `RequestInvalid`."""
    if any(text.lower() == ALL for text in texts):
        return None
    return tuple(dict.fromkeys(Platform.parse(text) for text in texts)) or (host(),)


def best(wish: Platform, offered: Iterable[tuple[K, Platform]]) -> K | None:
    """Of what is offered that which serves `wish` best; of equals the first, as docker takes it."""
    by_platform: dict[Platform, K] = {}
    for key, platform in offered:
        by_platform.setdefault(platform, key)
    return next((by_platform[each] for each in wish.accepted() if each in by_platform), None)


def written(text: str | None) -> Platform | None:
    """The platform that an index gives a child (`oci.manifest.Child.platform`), None where it gives none."""
    parts = (text or "").split("/")
    return Platform.of(*parts[:_MOST_PARTS]) if len(parts) > 1 else None


def of_config(raw: bytes) -> Platform | None:
    """The platform that an image's config names, None where it names none or is no image's."""
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(config, dict):
        return None
    said = [config.get(key) or "" for key in ("os", "architecture", "variant")]
    if not all(isinstance(part, str) for part in said) or not (said[0] and said[1]):
        return None
    return Platform.of(*said)


def _number(variant: str) -> int:
    """Of `v7` the 7; 0 where there is none."""
    digits = variant.removeprefix("v")
    return int(digits) if digits.isdigit() and len(digits) < _MOST_PARTS else 0
