"""The blobs of one image: what is here, what is downloaded, and how far that is."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from mirror.cache.content import Content
from mirror.cache.rights import Principal
from mirror.clock import Clock
from mirror.errors import ManifestInvalid
from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.operations.plan import Part, Plan
from mirror.operations.stream import Feed
from mirror.tasks import each

CLIENT = "pull"
"""Who answers for downloads that a pull begins (`Flights`)."""

CONFIG_LIMIT = 8 * 1024 * 1024
_EVERY = 0.1  # seconds between two words on one layer
_AT_ONCE = 8  # questions to the catalog


@dataclass(frozen=True, slots=True)
class Layer:
    """How far a layer is; `done` of `size` bytes are here."""

    name: str
    digest: str
    size: int
    state: Literal["exists", "waiting", "downloading", "complete"]
    done: int
    event: Literal["layer"] = "layer"


class Layers:
    """What the images of one pull have in common: how many layers come at a time, and which ones came."""

    def __init__(self, at_once: int) -> None:
        self.gate = asyncio.Semaphore(at_once)
        self._counted: set[Digest] = set()

    def counts(self, digest: Digest) -> bool:
        """Whether the bytes of a layer that was, or would be, fetched count: for the first image that says so."""
        first = digest not in self._counted
        self._counted.add(digest)
        return first


@dataclass(slots=True)
class Fetching:
    """One image's turn. `downloaded`: anything was not here."""

    content: Content
    principal: Principal
    reference: Reference
    plan: Plan
    layers: Layers
    feed: Feed[Any]
    clock: Clock
    downloaded: bool = False
    _fetched: int = field(default=0, init=False)

    async def foresee(self) -> tuple[int, int]:
        """Bytes that `fetch` would download, and bytes that would be here by then. Downloads nothing."""

        async def look(part: Part) -> int:
            digest = part.descriptor.digest
            here = await self.content.here(self.principal, self._repository, digest)
            return 0 if here or not self.layers.counts(digest) else part.descriptor.size

        fetch = sum(await each(self.plan.parts.values(), look, _AT_ONCE))
        return fetch, self._whole - fetch

    async def config(self, digest: Digest) -> bytes:
        """The bytes of this part, fetched first where it is not here. Raises as `Content.open`, and `ManifestInvalid`
        where it is too large for a config."""
        part = self.plan.parts[digest]
        if part.descriptor.size > CONFIG_LIMIT:
            raise ManifestInvalid(f"the image's config is larger than {CONFIG_LIMIT} bytes")
        await self._bring(part)
        data = bytearray()
        async with (
            self.content.open(self.principal, self._repository, digest, CLIENT) as blob,
            blob.reader(self._repository, 0, blob.size) as reader,
        ):
            while len(data) < min(blob.size, CONFIG_LIMIT):
                ready = await reader.ready(len(data), blob.size)
                data += await reader.read(len(data), ready - len(data))
        return bytes(data)

    async def fetch(self) -> tuple[int, int]:
        """Have everything here; bytes downloaded, and bytes that were here. What is here is told first.

        Raises the first failure; other downloads go on by themselves then, and are kept.
        """
        here: list[Part] = []
        missing: list[Part] = []
        for part in self.plan.parts.values():
            held = await self.content.held(self.principal, self._repository, part.descriptor.digest)
            (here if held else missing).append(part)
            if not held:
                await self._tell(part, "waiting", 0)
        await each(here, self._bring, _AT_ONCE)  # opened, each: what the catalog knows may have left the disk
        await each(missing, self._in_turn, len(missing) or 1)
        return self._fetched, self._whole - self._fetched

    @property
    def _repository(self) -> Repository:
        return self.reference.repository

    @property
    def _whole(self) -> int:
        return sum(part.descriptor.size for part in self.plan.parts.values())

    async def _in_turn(self, part: Part) -> None:
        async with self.layers.gate:
            await self._bring(part)

    async def _bring(self, part: Part) -> None:
        digest, size = part.descriptor.digest, part.descriptor.size
        tell = self._progress(part)
        fetched = await self.content.bring(self.principal, self._repository, digest, CLIENT, tell)
        await self._tell(part, "exists" if fetched is None else "complete", size)
        if fetched is not None:
            self.downloaded = True
            self._fetched += fetched if self.layers.counts(digest) else 0

    def _progress(self, part: Part) -> Callable[[int], None]:
        said_at: float | None = None

        def tell(done: int) -> None:
            nonlocal said_at
            now = self.clock.monotonic()
            if part.shown and (said_at is None or now - said_at >= _EVERY):
                said_at = now
                self.feed.hint(self._layer(part, "downloading", done))

        return tell

    async def _tell(self, part: Part, state: Literal["exists", "waiting", "complete"], done: int) -> None:
        if part.shown:
            await self.feed.tell(self._layer(part, state, done))

    def _layer(self, part: Part, state: Literal["exists", "waiting", "downloading", "complete"], done: int) -> Layer:
        return Layer(str(self.reference), str(part.descriptor.digest), part.descriptor.size, state, done)
