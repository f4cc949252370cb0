"""`rmi`: names go, and what nothing needs any more goes with them (docker's sentences). No registry is asked or told.

A tag only untags; with its last tag there an image leaves a repository. An ID with several tags, and whatever is
pinned, has to be forced. What a registry still has comes back with the next pull.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from mirror.cache.manifests import Manifests
from mirror.cache.names import Names
from mirror.cache.rights import Action, Principal, Rights
from mirror.cache.tags import Tags
from mirror.clock import Clock
from mirror.errors import Conflict, ManifestUnknown, MirrorError
from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.operations import platforms
from mirror.operations.composition import Child, Composition, edges_below
from mirror.operations.events import End, Failed, failed
from mirror.operations.platforms import Platform
from mirror.operations.resolve import Meaning, Resolver, no_such_image
from mirror.store import inventory, protocols
from mirror.store.inventory import ImageRow
from mirror.tasks import Tasks

_ATTESTED = "vnd.docker.reference.digest"  # BuildKit: which image of the index an attestation speaks of
_MOST = 1000  # names of one manifest that are looked at


class Catalog(protocols.Links, protocols.Tags, inventory.Images, inventory.Lifecycle, Protocol):
    """The parts of the catalog that this verb uses."""


class Collector(Protocol):
    """Who deletes bytes (`cache.sweep`)."""

    async def collect(self, digests: Iterable[Digest]) -> Sequence[tuple[Digest, int]]:
        """Delete those of these blobs that nothing needs now, and nobody is at. Which they were, and their sizes."""
        ...


@dataclass(frozen=True, slots=True)
class Unwanted:
    """What is to be removed. `platforms`: of indices only these images, as docker writes them."""

    references: tuple[str, ...]
    force: bool = False
    platforms: tuple[str, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Untagged:
    """This name is no more, or would be no more: canonical, with a tag; where there was none, with the digest."""

    name: str
    event: Literal["untagged"] = "untagged"


@dataclass(frozen=True, slots=True)
class Deleted:
    """This manifest's or blob's bytes are gone, or would be."""

    digest: str
    event: Literal["deleted"] = "deleted"


@dataclass(frozen=True, slots=True)
class Freed:
    """How many bytes that were, for one reference."""

    bytes: int
    event: Literal["freed"] = "freed"


Event = Untagged | Deleted | Freed | Failed | End


@dataclass(frozen=True, slots=True)
class _Removal:
    """A tag, or a manifest with the tags that name it there."""

    repository: Repository
    target: str | Digest


@dataclass(slots=True)
class _Foreseen:
    """What a dry run has foreseen so far: things go together that each by itself would stay."""

    removals: list[_Removal] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    deleted: set[Digest] = field(default_factory=set)


class Remove:
    """The verb."""

    def __init__(
        self,
        *,
        resolver: Resolver,
        composition: Composition,
        names: Names,
        rights: Rights,
        catalog: Catalog,
        tags: Tags,
        manifests: Manifests,
        collector: Collector,
        tasks: Tasks,
        clock: Clock,
    ) -> None:
        self._resolver = resolver
        self._composition = composition
        self._names = names
        self._rights = rights
        self._catalog = catalog
        self._tags = tags
        self._manifests = manifests
        self._collector = collector
        self._tasks = tasks
        self._clock = clock

    def remove(self, principal: Principal, asked: Unwanted) -> AsyncIterator[Event]:
        """Remove everything that is asked for; one that fails does not stop the others. The last event is an `End`.

        Raises `RequestInvalid` for a platform that is none.
        """
        wishes = tuple(dict.fromkeys(Platform.parse(text) for text in asked.platforms))
        return self._all(principal, asked, wishes)

    async def _all(self, principal: Principal, asked: Unwanted, wishes: tuple[Platform, ...]) -> AsyncIterator[Event]:
        done, wrong = 0, 0
        foreseen = _Foreseen()
        for text in dict.fromkeys(asked.references):
            try:
                removals = await self._meant(principal, asked, text, wishes)
                if asked.dry_run:
                    async for event in self._foresee(foreseen, removals):
                        yield event
                else:
                    async for event in self._do(removals, principal.actor):
                        yield event
                done += 1
            except MirrorError as error:
                if asked.force and isinstance(error, ManifestUnknown):
                    done += 1  # then it is not there, as he wishes
                    continue
                wrong += 1
                yield failed(text, error)
        yield End(done, wrong)

    # --- what is meant, and whether it may go ------------------------------------------------------------------

    async def _meant(
        self, principal: Principal, asked: Unwanted, text: str, wishes: tuple[Platform, ...]
    ) -> list[_Removal]:
        """What has to be removed for this text. Raises why that may not be."""
        meaning = await self._resolver.find(principal, text)
        for row in meaning.rows:
            self._rights.require(principal, Action.DELETE, row.repository)
        if not asked.force:
            await self._check_pins(text, meaning.rows)
        if wishes:
            return await self._of_platforms(principal, text, meaning.rows, wishes, force=asked.force)
        return self._whole(text, meaning, force=asked.force)

    def _whole(self, text: str, meaning: Meaning, *, force: bool) -> list[_Removal]:
        reference = meaning.reference
        if reference is not None and reference.digest is None:
            return [_Removal(reference.repository, str(reference.target))]
        if not force and sum(row.tag is not None for row in meaning.rows) > 1:
            raise _conflict(_short(text, meaning), "image is referenced in multiple repositories")
        return _manifests((row.repository, row.manifest) for row in meaning.rows)

    async def _check_pins(self, text: str, rows: Sequence[ImageRow]) -> None:
        """Raises `Conflict` where one of these is pinned."""
        if not any(row.pinned for row in rows):
            return
        pinned = {(row.repository, name) for row in rows for name in (row.tag, str(row.manifest))}
        owners = sorted({pin.owner for pin in await self._catalog.pins() if (pin.repository, pin.reference) in pinned})
        raise _conflict(text, f"image is pinned by {', '.join(owners) or 'somebody'}")

    async def _of_platforms(
        self, principal: Principal, text: str, rows: Sequence[ImageRow], wishes: Sequence[Platform], *, force: bool
    ) -> list[_Removal]:
        """The images of these platforms, with their attestations, each out of its index. What is in no index goes as a
        whole, if it is of the platform."""
        made = await self._composition.of(principal, rows)
        found: dict[Platform, list[_Removal]] = {wish: [] for wish in wishes}
        for row, one in zip(rows, made, strict=True):
            for wish in wishes:
                for child in _matching(one.children, wish):
                    found[wish] += await self._child(text, row, child, force=force)
        missing = [str(wish) for wish, removals in found.items() if not removals]
        if missing:
            raise ManifestUnknown(
                f"image with reference {text} was found but does not provide the specified platform"
                f" ({', '.join(missing)})"
            )
        return list(dict.fromkeys(removal for removals in found.values() for removal in removals))

    async def _child(self, text: str, row: ImageRow, child: Child, *, force: bool) -> list[_Removal]:
        home = row.repository
        if child.manifest == row.manifest:
            return [_Removal(home, row.tag if row.tag is not None else row.manifest)]
        holding = await self._catalog.holding(home, child.manifest, is_manifest=True)
        if holding is None or holding.link is None:
            return []  # shown, since anybody may read it elsewhere: here there is nothing to take away
        digests = [child.manifest, *await self._attestations(row, child.manifest)]
        if not force:
            for digest in digests:
                others = await self._catalog.find(digest.hex, _MOST)
                mine = [each for each in others if (each.repository, each.manifest) == (home, digest)]
                await self._check_pins(text, mine)
                tagged = [each.tag for each in mine if each.tag is not None]
                if tagged:
                    raise _conflict(digest.short, f"image has the tag {tagged[0]} of its own")
        return _manifests((home, digest) for digest in digests)

    async def _attestations(self, row: ImageRow, image: Digest) -> list[Digest]:
        """What of an index speaks of one of its images."""
        kept = await self._manifests.held(row.repository, row.manifest)
        children = kept.manifest.children() if kept is not None else ()
        return [child.descriptor.digest for child in children if child.annotations.get(_ATTESTED) == str(image)]

    # --- doing it ----------------------------------------------------------------------------------------------

    async def _do(self, removals: Sequence[_Removal], actor: str) -> AsyncIterator[Event]:
        candidates: dict[Digest, None] = {}
        for removal in removals:
            below = await self._below(removal)
            for name in await self._tasks.finish("rmi", self._remove(removal, below, actor)):
                yield Untagged(name)
            candidates |= below
        freed = 0
        for digest, size in await self._collector.collect(candidates):
            freed += size
            yield Deleted(str(digest))
        yield Freed(freed)

    async def _below(self, removal: _Removal) -> dict[Digest, None]:
        """The manifest that is removed, and everything below it, what names others first."""
        target = removal.target
        if isinstance(target, str):
            row = await self._catalog.tag(removal.repository, target)
            if row is None:
                return {}
            target = row.manifest
        edges = await edges_below(self._catalog, [target])
        return dict.fromkeys([target, *(edge.child for each in edges.values() for edge in each)])

    async def _remove(self, removal: _Removal, below: Iterable[Digest], actor: str) -> list[str]:
        """Take it away, with its pins, and forget it and what is `below`. Returns the names that went with it."""
        home, target = removal.repository, removal.target
        at = self._clock.wall()
        if isinstance(target, str):
            gone = [target] if await self._catalog.remove_tag(home, target, at, actor) is not None else []
            if not gone:
                raise no_such_image(f"{self._names.familiar(home)}:{target}")
        else:
            gone = list(await self._catalog.remove_manifest(home, target, at, actor))
        for tag in gone:
            self._tags.forget(home, tag)
            await self._catalog.unpin(Reference(home, tag, None), None)
        for digest in below:
            self._manifests.forget(home, digest)
        return _names(home, target, gone)

    # --- foreseeing it -----------------------------------------------------------------------------------------

    async def _foresee(self, foreseen: _Foreseen, removals: Sequence[_Removal]) -> AsyncIterator[Event]:
        """What removing these would do, after what was foreseen already."""
        for removal in removals:
            for name in await self._named(removal):
                if name not in foreseen.names:
                    foreseen.names.add(name)
                    yield Untagged(name)
        foreseen.removals += removals
        everything = [(each.repository, each.target) for each in foreseen.removals]
        freed = 0
        soon = self._clock.wall() + 1.0  # as for the collector: what was used this very moment may go
        for digest, size in await self._catalog.foresee(everything, soon):
            if digest not in foreseen.deleted:
                foreseen.deleted.add(digest)
                freed += size
                yield Deleted(str(digest))
        yield Freed(freed)

    async def _named(self, removal: _Removal) -> list[str]:
        home, target = removal.repository, removal.target
        if isinstance(target, str):
            return _names(home, target, [target])
        rows = await self._catalog.find(target.hex, _MOST)
        tags = [row.tag for row in rows if (row.repository, row.manifest) == (home, target) and row.tag is not None]
        return _names(home, target, tags)


def _names(home: Repository, target: str | Digest, tags: Iterable[str]) -> list[str]:
    """How what was removed was called: by its tags, else by its digest."""
    named = [str(Reference(home, tag, None)) for tag in tags]
    return named or ([str(Reference(home, None, target))] if isinstance(target, Digest) else [])


def _manifests(found: Iterable[tuple[Repository, Digest]]) -> list[_Removal]:
    """Each once."""
    return [_Removal(home, digest) for home, digest in dict.fromkeys(found)]


def _matching(children: Iterable[Child], wish: Platform) -> list[Child]:
    """Those that are of this very platform and are held. One that merely runs there as well is another image."""
    return [
        child
        for child in children
        if child.held and not child.attestation and platforms.written(child.platform) == wish
    ]


def _short(text: str, meaning: Meaning) -> str:
    return meaning.identity.short if meaning.identity is not None else text


def _conflict(what: str, why: str) -> Conflict:
    """Docker's sentence."""
    return Conflict(f"conflict: unable to delete {what} (must be forced) - {why}")
