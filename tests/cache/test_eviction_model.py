"""Collection and eviction against everything else that happens, beside a model that is told what must be there.

No held image ever loses a layer; nothing unreferenced outlives its grace; the cap holds.

Broken on purpose, these fail: evicting without the check of pins, deleting without the check of roots, a `hold` without
its lease, a write that does not ask for room, staging that is not counted, memory that does not forget.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mirror.cache.rights import LOOPBACK
from mirror.cache.sweep import GRACE
from mirror.errors import BlobUnknown, ManifestUnknown, NoRoom
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest, Role
from mirror.oci.names import Reference, Repository
from mirror.store.protocols import Proof
from tests.cache.support import World
from tests.store.samples import ALPINE, CONFIG, NGINX, OWN, TOOL, image, index

T = TypeVar("T")
CAP = 12_000
TEXTS = {name: name * 1500 for name in "abcde"}
CHILDREN = [image(*(TEXTS[name] for name in names)) for names in ("a", "ab", "bc", "cd", "de", "ae")]
INDICES = [index(CHILDREN[:2]), index(CHILDREN[1:4])]
MANIFESTS = [*CHILDREN, *INDICES]
UPSTREAM = [ALPINE, NGINX, TOOL]

homes = st.sampled_from(UPSTREAM)
manifests = st.sampled_from(MANIFESTS)
tags = st.sampled_from(["1", "2"])


def below(manifest: Manifest) -> list[Manifest]:
    """It and the manifests below it."""
    digests = {child.descriptor.digest for child in manifest.children() if child.role is Role.MANIFEST}
    return [manifest, *(child for child in CHILDREN if child.descriptor.digest in digests)]


def blobs(manifest: Manifest) -> list[Digest]:
    """What it names beside manifests."""
    return [child.descriptor.digest for child in manifest.children() if child.role is not Role.MANIFEST]


class Life(RuleBasedStateMachine):
    """`promised` are the images that were pinned or pushed when they were whole: they stay, to the last byte."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.world: World = self.run(self.begin())
        self.promised: dict[tuple[Repository, str], Manifest] = {}
        self.pinned: set[tuple[Repository, str]] = set()
        self.loose_since: dict[Digest, float] = {}

    async def begin(self) -> World:
        world = World(max_size=CAP)
        for home in UPSTREAM:
            registry = world.hub if home.registry == "docker.io" else world.other
            for data in (CONFIG, *(text.encode() for text in TEXTS.values())):
                registry.add(home, data)
            for manifest in MANIFESTS:
                registry.push(home, manifest)
        return world

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    # --- what happens ----------------------------------------------------------------------------------------

    async def _pull(self, home: Repository, tag: str) -> None:
        """As a client does, everything in parallel; what it gets is what the registry has."""
        answer = await self.world.tags.by_tag(LOOPBACK, home, tag)
        for manifest in below(answer.kept.manifest):
            got = await self.world.manifests.by_digest(LOOPBACK, home, manifest.descriptor.digest)
            assert got.kept.manifest.raw == manifest.raw
            wanted = blobs(manifest)
            for digest, data in zip(
                wanted, await asyncio.gather(*(self.world.pull(home, each) for each in wanted)), strict=True
            ):
                assert Digest.of(data) == digest

    def _offer(self, home: Repository, tag: str, manifest: Manifest) -> None:
        registry = self.world.hub if home.registry == "docker.io" else self.world.other
        registry.push(home, manifest, tag)

    @rule(pulls=st.lists(st.tuples(homes, tags, manifests), min_size=1, max_size=3))
    def pull(self, pulls: list[tuple[Repository, str, Manifest]]) -> None:
        """Several clients at once. A tag that was pinned here keeps its image."""

        async def work() -> None:
            for home, tag, manifest in pulls:
                if (home, tag) not in self.promised:
                    self._offer(home, tag, manifest)
            self.world.clock.advance(100)
            async with asyncio.TaskGroup() as group:
                for home, tag, _ in pulls:
                    group.create_task(self._pull(home, tag))
            await self.world.idle()

        self.run(work())

    @rule(manifest=st.sampled_from(CHILDREN), tag=tags)
    def push(self, manifest: Manifest, tag: str) -> None:
        """As a push will do it: uploads, then the manifest; refused where there is no room."""
        if sum(manifest.descriptor.size for manifest in self.promised.values()) > CAP // 3:
            return

        async def work() -> None:
            world, at = self.world, self.world.clock.wall()
            try:
                for text in [CONFIG, *(text.encode() for text in TEXTS.values())]:
                    digest = Digest.of(text)
                    if digest in blobs(manifest):
                        async with world.leases.hold(digest):
                            location = await world.roomy.put(text, digest)
                            await world.catalog.hold(digest, len(text), location, [(OWN, Proof.PUSHED)], at)
                digest = manifest.descriptor.digest
                async with world.leases.hold(digest):
                    location = await world.roomy.put(manifest.raw, digest)
                    await world.catalog.hold_manifest(OWN, manifest, location, Proof.PUSHED, at)
                await world.catalog.set_tag(OWN, tag, digest, at, "me")
            except NoRoom:
                return
            world.tags.forget(OWN, tag)
            self.promised[OWN, tag] = manifest

        self.run(work())

    @rule(home=homes, tag=tags, manifest=manifests)
    def pull_and_pin(self, home: Repository, tag: str, manifest: Manifest) -> None:
        """What is here as a whole; not so much that nothing else finds room."""
        self.pull([(home, tag, manifest)])

        async def work() -> None:
            known = await self.world.catalog.tag(home, tag)
            if known is None or len(self.promised) >= 2:
                return
            (manifest,) = [each for each in MANIFESTS if each.descriptor.digest == known.manifest]
            here = {Digest.of(data) for data in self.world.store.blobs.values()}
            wanted = {each.descriptor.digest for each in below(manifest)} | {
                digest for each in below(manifest) for digest in blobs(each)
            }
            linked = [
                await self.world.catalog.holding(home, each.descriptor.digest, is_manifest=True)
                for each in below(manifest)
            ]
            if wanted <= here and all(holding and holding.link for holding in linked):
                await self.world.catalog.pin(Reference(home, tag, None), "me", self.world.clock.wall())
                self.promised[home, tag] = manifest
                self.pinned.add((home, tag))

        self.run(work())

    @rule(home=homes, tag=tags)
    def unpin(self, home: Repository, tag: str) -> None:
        if (home, tag) in self.pinned:
            self.pinned.discard((home, tag))
            del self.promised[home, tag]
            assert self.run(self.world.catalog.unpin(Reference(home, tag, None), None)) == 1

    @rule(home=st.sampled_from([*UPSTREAM, OWN]), tag=tags)
    def rmi(self, home: Repository, tag: str) -> None:
        """Of what is pinned the pin goes first."""
        self.unpin(home, tag)

        async def work() -> None:
            world = self.world
            digest = await world.catalog.remove_tag(home, tag, world.clock.wall(), "me")
            if digest is None:
                return
            world.tags.forget(home, tag)
            (manifest,) = [each for each in MANIFESTS if each.descriptor.digest == digest]
            for each in below(manifest):
                world.manifests.forget(home, each.descriptor.digest)
            await world.sweep.collect([digest])

        self.run(work())
        self.promised.pop((home, tag), None)

    @rule(data=st.integers(0, 99))
    def leave_a_blob(self, data: int) -> None:
        """Somebody pulls a blob that no manifest here names."""

        async def work() -> None:
            digest = self.world.hub.add(ALPINE, b"loose" * (data + 1))
            assert Digest.of(await self.world.pull(ALPINE, digest)) == digest
            await self.world.idle()

        self.run(work())

    @rule(wanted=st.integers(1, CAP))
    def evict(self, wanted: int) -> None:
        self.run(self.world.eviction.make(wanted, "for a test"))

    @rule(home=homes, tag=tags, wanted=st.integers(1, CAP))
    def pull_while_evicting(self, home: Repository, tag: str, wanted: int) -> None:
        async def work() -> None:
            self.world.clock.advance(100)
            pulling = self.world.tasks.spawn("pull", self._pull(home, tag))
            for _ in range(wanted % 7):
                await asyncio.sleep(0)
            await self.world.eviction.make(wanted, "for a test")
            await self.world.sweep.collect_loose()
            try:
                await pulling
            except (ManifestUnknown, BlobUnknown):
                assert (home, tag) not in self.promised  # its registry has no such tag
            await self.world.idle()

        self.run(work())

    @rule(hours=st.integers(0, 3))
    def time_goes_by_and_it_is_swept(self, hours: int) -> None:
        async def work() -> None:
            self.world.clock.advance(hours * 3600 + 1)
            await self.world.uses.flush()
            await self.world.sweep.sweep()
            for digest, _ in await self.world.catalog.unreferenced(1e18, 1000):
                assert self.loose_for(digest) <= GRACE + 1

        self.run(work())

    def loose_for(self, digest: Digest) -> float:
        """Seconds since it was last used, or, of an upload, since it waits for its manifest in vain."""
        blob = self.world.catalog._blobs[digest]  # type: ignore[attr-defined]
        waits = self.world.catalog._awaited(digest, self.world.clock.wall())  # type: ignore[attr-defined]
        since = max(blob.used_at, self.world.sweep._began + self.world.sweep._offset)
        found: float = 0.0 if waits else self.world.clock.wall() - since
        return found

    @rule()
    def restart(self) -> None:
        """A kill: what was only in memory is gone, staging is cleaned, deletions are finished."""

        async def work() -> None:
            old = self.world
            await old.tasks.drain(0)
            new = World(max_size=CAP, catalog=old.catalog)
            new.clock.shift, new.clock.wall_shift = old.clock.shift, old.clock.wall_shift
            new.hub, new.other, new.upstreams = old.hub, old.other, old.upstreams
            new.proofs._upstreams = old.upstreams
            new.store.blobs = old.store.blobs
            await new.room.count(new.catalog)
            self.world = new

        self.run(work())

    # --- what must hold --------------------------------------------------------------------------------------

    @invariant()
    def no_kept_image_loses_a_byte(self) -> None:
        here = {Digest.of(data): location for location, data in self.world.store.blobs.items()}
        for (home, tag), manifest in self.promised.items():
            known = self.run(self.world.catalog.tag(home, tag))
            assert known is not None
            assert known.manifest == manifest.descriptor.digest
            for each in below(manifest):
                assert each.descriptor.digest in here
                holding = self.run(self.world.catalog.holding(home, each.descriptor.digest, is_manifest=True))
                assert holding is not None
                assert holding.link is not None
                for digest in blobs(each):
                    assert digest in here
                    assert self.run(self.world.catalog.states([digest])) == {digest: "held"}

    @invariant()
    def what_the_catalog_holds_is_there(self) -> None:
        here = {Digest.of(data) for data in self.world.store.blobs.values()}
        held = self.run(self.world.catalog.unverified(None, 1000))
        assert {digest for digest, _, _ in held} == here
        assert self.run(self.world.catalog.deleting()) == []

    @invariant()
    def the_cap_holds(self) -> None:
        there = sum(map(len, self.world.store.blobs.values())) + sum(self.run(self.world.store.staging()).values())
        assert there <= self.world.room.used <= CAP

    @invariant()
    def what_memory_answers_is_linked(self) -> None:
        for home in UPSTREAM:
            for tag in ("1", "2"):
                answer = self.world.tags.remembered(LOOPBACK, home, tag)
                if answer is not None and self.run(self.world.catalog.tag(home, tag)) is None:
                    assert not self.room_for(answer.kept.manifest)  # served, and could not be kept

    def room_for(self, manifest: Manifest) -> bool:
        return self.world.room.used + manifest.descriptor.size <= CAP

    def teardown(self) -> None:
        self.run(self.world.tasks.drain(0))
        self.runner.close()


Life.TestCase.settings = settings(max_examples=max(5, settings().max_examples // 3), stateful_step_count=25)
TestLife = Life.TestCase
