"""`pull`: images into the mirror, through the same downloads that everybody else follows.

It asks each tag's registry, however fresh the tag is here; what is held by digest is not asked for again. A registry
that gives no answer is a failure, as with docker, also where the image is held (which goes on being served): whoever
pulls wants to know. Only where the mirror is offline by choice does what is held, whole, count as pulled.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mirror.cache.content import Content
from mirror.cache.listings import Listings
from mirror.cache.manifests import Manifests
from mirror.cache.names import Names
from mirror.cache.proofs import Proofs
from mirror.cache.rights import Action, Principal, Rights
from mirror.cache.tags import Tags
from mirror.clock import Clock
from mirror.errors import (
    Denied,
    DigestInvalid,
    ManifestUnknown,
    MirrorError,
    NameInvalid,
    NameUnknown,
    Offline,
    RequestInvalid,
    StoreFailed,
    UpstreamGone,
    UpstreamNoAnswer,
)
from mirror.oci.digest import Digest
from mirror.oci.manifest import Descriptor, Manifest
from mirror.oci.names import Reference, Repository
from mirror.operations.events import End, Failed, Note, failed
from mirror.operations.fetching import Fetching, Layer, Layers
from mirror.operations.here import Here
from mirror.operations.plan import Plan, Read, plan
from mirror.operations.platforms import Platform, of_config, wanted
from mirror.operations.stream import Feed, streamed
from mirror.store import inventory, protocols
from mirror.tasks import Tasks, each

log = logging.getLogger(__name__)

_LAYERS = 3  # layers at a time for each image at a time …
_MOST_LAYERS = 16  # … and altogether
_FOREIGN = "layers that may not be distributed are left out: {}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be pulled, and how. `platforms`: as docker writes them, `all`, or none for this machine's."""

    references: tuple[str, ...]
    platforms: tuple[str, ...] = ()
    all_tags: bool = False
    if_missing: bool = False  # ask nobody about what is here, whole
    pin: bool = False
    dry_run: bool = False
    jobs: int = 3  # images at a time


@dataclass(frozen=True, slots=True)
class Image:
    """An image's turn has come."""

    name: str
    event: Literal["image"] = "image"


@dataclass(frozen=True, slots=True)
class Pulled:
    """An image is here, whole. Bytes are those of its blobs, manifests not counted; what several images of one pull
    share is fetched once, and held for the others."""

    name: str
    digest: str
    platform: str
    status: Literal["newer", "up_to_date"]
    bytes_fetched: int
    bytes_held: int
    event: Literal["pulled"] = "pulled"


@dataclass(frozen=True, slots=True)
class Planned:
    """What pulling an image would fetch, and what of it is here."""

    name: str
    digest: str
    fetch_bytes: int
    held_bytes: int
    event: Literal["plan"] = "plan"


Event = Image | Layer | Pulled | Planned | Note | Failed | End


class Catalog(protocols.Tags, protocols.Links, inventory.Lifecycle, inventory.Collection, Protocol):
    """The parts of the catalog that a pull uses."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where everything comes from."""

    names: Names
    rights: Rights
    proofs: Proofs
    tags: Tags
    manifests: Manifests
    content: Content
    listings: Listings
    catalog: Catalog
    clock: Clock


class Pull:
    """The verb."""

    def __init__(self, sources: Sources, tasks: Tasks) -> None:
        self._sources = sources
        self._tasks = tasks

    def pull(self, principal: Principal, asked: Wanted) -> AsyncGenerator[Event, None]:
        """Pull everything that is asked for; one that fails does not stop the others. The last event is an `End`.

        Raises `RequestInvalid` for a platform that is none.
        """
        platforms = wanted(asked.platforms)

        async def work(feed: Feed[Event]) -> None:
            await _Batch(self._sources, principal, asked, platforms, feed).run()

        return streamed(self._tasks, "pull", work)


class _Batch:
    """One pull of many images."""

    def __init__(
        self,
        sources: Sources,
        principal: Principal,
        asked: Wanted,
        platforms: Sequence[Platform] | None,
        feed: Feed[Event],
    ) -> None:
        self._s = sources
        self._principal = principal
        self._asked = asked
        self._platforms = platforms
        self._feed = feed
        self._here = Here(sources.catalog, sources.manifests, sources.content, sources.proofs, principal)
        self._images = asyncio.Semaphore(asked.jobs)
        self._layers = Layers(min(_LAYERS * asked.jobs, _MOST_LAYERS))
        self._begun: set[Reference] = set()
        self._ok = 0
        self._failed = 0

    async def run(self) -> None:
        items = tuple(dict.fromkeys(self._asked.references))
        await each(items, self._item, len(items) or 1)
        await self._feed.tell(End(self._ok, self._failed))

    async def _item(self, text: str) -> None:
        """One name, which with `all_tags` stands for many images."""
        try:
            async with self._images:
                references = await self._references(text)
        except MirrorError as error:
            await self._fail(text, error)
            return
        await each(references, self._one, len(references) or 1)

    async def _references(self, text: str) -> list[Reference]:
        reference = read_reference(self._s.names, text)
        if not self._asked.all_tags:
            return [reference]
        if tagged(text):
            raise RequestInvalid("a tag can't be used with --all-tags/-a")
        repository = reference.repository
        self._s.rights.require(self._principal, Action.PULL, repository)
        try:
            tags = await self._tags(repository)
        except MirrorError as error:
            raise explained(reference, error) from error
        return [Reference(repository, tag, None) for tag in tags]

    async def _tags(self, repository: Repository) -> Sequence[str]:
        """Its registry's tags, or those held, where nobody can or need be asked."""
        try:
            if not repository.is_own:
                return await self._s.listings.upstream_tags(self._principal, repository)
        except (Offline, UpstreamNoAnswer) as error:
            if not (isinstance(error, Offline) or self._asked.if_missing):
                raise
            tags = await self._held_tags(repository)
            if not tags:
                raise
            return tags
        return await self._held_tags(repository)

    async def _held_tags(self, repository: Repository) -> list[str]:
        names = await self._s.catalog.tags(repository)
        return [name for name in names if await self._here.root(Reference(repository, name, None)) is not None]

    async def _one(self, reference: Reference) -> None:
        async with self._images:
            if reference in self._begun:
                return  # named twice
            self._begun.add(reference)
            name = str(reference)
            await self._feed.tell(Image(name))
            try:
                event = await self._image(reference)
            except MirrorError as error:
                await self._fail(name, explained(reference, error))
            else:
                self._ok += 1
                await self._feed.tell(event)

    async def _fail(self, name: str, error: MirrorError) -> None:
        self._failed += 1
        await self._feed.tell(failed(name, error))

    # --- one image -------------------------------------------------------------------------------------------

    async def _image(self, reference: Reference) -> Pulled | Planned:
        self._s.rights.require(self._principal, Action.PULL, reference.repository)
        if self._asked.pin:
            self._s.rights.require(self._principal, Action.ADMIN, reference.repository)
        before = await self._here.root(reference)
        if before is not None and not self._asked.dry_run:
            await self._touch(reference, [before.descriptor.digest])
        made = await self._made(reference, before)
        if made.foreign:
            left_out = ", ".join(digest.short for digest in made.foreign)
            await self._feed.tell(Note(str(reference), _FOREIGN.format(left_out)))
        fetching = Fetching(self._s.content, self._principal, reference, made, self._layers, self._feed, self._s.clock)
        if self._asked.dry_run:
            fetch, held = await fetching.foresee()
            return Planned(str(reference), str(made.root.descriptor.digest), fetch, held)
        used = [*made.manifests, *made.parts]
        await self._touch(reference, used)
        platform = await self._platform(reference, made, fetching)
        fetch, held = await fetching.fetch()
        await self._touch(reference, used)
        await self._check_here(reference, made)
        if self._asked.pin:
            await self._s.catalog.pin(reference, owner_of(self._principal), self._s.clock.wall())
        same = before is not None and before.descriptor.digest == made.root.descriptor.digest
        return Pulled(
            name=str(reference),
            digest=str(made.root.descriptor.digest),
            platform=platform,
            status="up_to_date" if same and not fetching.downloaded else "newer",
            bytes_fetched=fetch,
            bytes_held=held,
        )

    async def _made(self, reference: Reference, before: Manifest | None) -> Plan:
        """What the image consists of, as its registry says now."""
        repository = reference.repository
        if self._asked.if_missing:
            whole = await self._here.whole(repository, before, self._platforms)
            if whole is not None:
                return whole
        if repository.is_own:
            return await self._own(reference, before)
        try:
            return await plan(await self._root(reference), self._platforms, self._reader(repository))
        except Offline as error:
            whole = await self._here.whole(repository, before, self._platforms)
            if whole is None:
                raise
            await self._feed.tell(Note(str(reference), f"not asked for, it is here: {error.message}"))
            return whole
        except UpstreamNoAnswer:
            if before is not None and await self._here.whole(repository, before, self._platforms) is not None:
                held = f"what is held of it here, {before.descriptor.digest}, is whole and goes on being served"
                await self._feed.tell(Note(str(reference), held))
            raise

    async def _root(self, reference: Reference) -> Manifest:
        if reference.digest is not None:
            answer = await self._s.manifests.by_digest(self._principal, reference.repository, reference.digest)
        else:
            answer = await self._s.tags.renew(self._principal, reference.repository, reference.tag or "")
        return answer.kept.manifest

    def _reader(self, repository: Repository) -> Read:
        async def read(descriptor: Descriptor) -> Manifest:
            try:
                answer = await self._s.manifests.by_digest(self._principal, repository, descriptor.digest)
            except ManifestUnknown as error:  # the name is known: it is not that which is not found
                raise ManifestUnknown(f"it names {descriptor.digest}, but {error.message}") from None
            return answer.kept.manifest

        return read

    async def _own(self, reference: Reference, before: Manifest | None) -> Plan:
        """The mirror's own images come from nowhere else."""
        if before is None:
            raise ManifestUnknown(
                f"{reference.familiar} is not here, and {reference.repository.familiar} is this mirror's own:"
                " no registry has it"
            )
        whole = await self._here.whole(reference.repository, before, self._platforms)
        if whole is None:
            await plan(before, self._platforms, self._reader(reference.repository))  # says which platforms there are
            raise ManifestUnknown(f"{reference.familiar} is this mirror's own, and part of it is not here any more")
        await self._feed.tell(Note(str(reference), "it is this mirror's own: there is nothing to fetch"))
        return whole

    async def _check_here(self, reference: Reference, made: Plan) -> None:
        """Raises `StoreFailed` where part of it was never kept, or went while the rest came."""
        home = reference.repository
        tagged = reference.digest is not None or await self._s.catalog.tag(home, str(reference.target)) is not None
        for digest in made.manifests:
            holding = await self._s.catalog.holding(home, digest, is_manifest=True)
            if not tagged or holding is None or holding.link is None:
                raise StoreFailed(
                    f"{reference.familiar} did not stay: it was removed meanwhile, or there is no room for it"
                )

    async def _touch(self, reference: Reference, digests: Sequence[Digest]) -> None:
        """It is in use: nothing of it is to go while the rest comes."""
        try:
            await self._s.catalog.touch([(reference.repository, reference.target)], digests, self._s.clock.wall())
        except StoreFailed as error:
            log.warning("that %s is in use is not written down: %s", reference, error.message)

    async def _platform(self, reference: Reference, made: Plan, fetching: Fetching) -> str:
        """What the image is for. Raises `ManifestUnknown` where another platform was asked for by name: an image
        without an index is taken as it is only where none was."""
        if made.config is None:
            return ",".join(made.platforms)
        found = of_config(await fetching.config(made.config.digest))
        if found is None:
            return ""
        for wish in self._platforms or ():
            if self._asked.platforms and found not in wish.accepted():
                raise mismatch(reference, wish, found)
        return str(found)


def read_reference(names: Names, text: str) -> Reference:
    """`Names.reference`; what is none is no digest that went wrong, either. Raises `NameInvalid`."""
    try:
        return names.reference(text)
    except DigestInvalid as error:
        raise NameInvalid(f"invalid reference format: {error.message}") from error


def tagged(text: str) -> bool:
    """Whether a tag or a digest is written."""
    return "@" in text or ":" in text.rpartition("/")[2]


def owner_of(principal: Principal) -> str:
    """In whose name something is pinned."""
    return principal.user or "user"


def mismatch(reference: Reference, wish: Platform, found: Platform) -> ManifestUnknown:
    """Docker's sentence on an image for another platform than was asked for by name."""
    return ManifestUnknown(
        f"image with reference {reference.familiar} was found but does not match the specified platform:"
        f" wanted {wish}, actual: {found}"
    )


def explained(reference: Reference, error: MirrorError) -> MirrorError:
    """Docker's sentence on what its registry does not give; any other error as it is."""
    registry = reference.repository.registry
    cause = error if isinstance(error, UpstreamGone) else error.__cause__
    if not isinstance(error, ManifestUnknown | NameUnknown | UpstreamGone) or not isinstance(cause, UpstreamGone):
        return error
    if cause.refused:
        return Denied(
            f"pull access denied for {reference.repository.familiar}, repository does not exist or may require"
            f" 'mirror login {registry}'"
        )
    return ManifestUnknown(f"manifest for {reference.familiar} not found: {registry} does not have it")
