"""What the cache needs to know of the configuration, registry by registry."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class PushMode(StrEnum):
    """What becomes of a push under a registry's name."""

    DENY = "deny"
    LOCAL = "local"  # kept here only
    THROUGH = "through"  # accepted once the registry has it all
    QUEUE = "queue"  # accepted once it is durable here, and sent as soon as that can be


@dataclass(frozen=True, slots=True)
class RegistryPolicy:
    """How tags of one registry age, `tag_ttl` in seconds, and what becomes of pushes under its name."""

    tag_ttl: float = 60.0
    immutable_tags: tuple[re.Pattern[str], ...] = ()
    push: PushMode = PushMode.DENY

    def immutable(self, tag: str) -> bool:
        return any(pattern.search(tag) for pattern in self.immutable_tags)


@dataclass(slots=True)
class Policy:
    """How the whole mirror behaves. `offline` is the one thing that changes while it runs.

    `keep_gone`: go on serving what upstream removed. `private_stale`: for how many seconds private content is
    served after its registry last confirmed it.
    """

    offline: bool = False
    keep_gone: bool = True
    private_stale: float = 7 * 86400.0
    registries: Mapping[str, RegistryPolicy] = field(default_factory=dict)

    def of(self, registry: str) -> RegistryPolicy:
        return self.registries.get(registry, _DEFAULT)


_DEFAULT = RegistryPolicy()
