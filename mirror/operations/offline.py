"""`offline`: whether registries are asked at all. A switch while the mirror runs; the setting is where it begins."""

import logging
from collections.abc import Awaitable, Callable

from mirror.cache.policy import Policy
from mirror.tasks import Tasks

log = logging.getLogger(__name__)


class Switch:
    """The switch. `look` looks at the registries once, when they are asked again."""

    def __init__(self, *, policy: Policy, tasks: Tasks, look: Callable[[], Awaitable[None]]) -> None:
        self._policy = policy
        self._tasks = tasks
        self._look = look

    @property
    def offline(self) -> bool:
        return self._policy.offline

    def turn(self, *, offline: bool) -> bool:
        """Stop asking registries, or ask them again, from this moment on; what it is then."""
        if offline == self._policy.offline:
            return offline
        self._policy.offline = offline
        log.warning("offline: no registry is asked" if offline else "online: registries are asked again")
        if not offline:
            self._tasks.background("look at the upstreams", self._looking())
        return offline

    async def _looking(self) -> None:
        await self._look()
