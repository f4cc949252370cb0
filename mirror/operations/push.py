"""`push`: images that are held here to a registry, which gets only what it lacks (`cache.transfer`).

A name means what is held under it, and no registry is asked about that: a tag's digest is read once. It goes to its
own registry under its own name, or with `to` below another one. What the registry's `push` setting says is about
pushes to this mirror, and nothing to this verb.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Literal, Self

from mirror.cache.parcel import Parcel
from mirror.cache.rights import Action, Principal
from mirror.cache.transfer import Progress, Sent, Step
from mirror.errors import MirrorError, NameInvalid, RequestInvalid, StoreFailed
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import DOCKER_HUB, Reference, Repository, canonical_registry, is_registry
from mirror.operations.events import End, Failed, Note, failed
from mirror.operations.gathering import Gathering, Layer, Sources, Telling, no_local_image
from mirror.operations.platforms import Platform
from mirror.operations.pull import read_reference, tagged
from mirror.operations.stream import Feed, streamed
from mirror.store.protocols import Origin
from mirror.tasks import Tasks, each

log = logging.getLogger(__name__)

_LAYERS = 3  # blobs fetched at a time for each image at a time …
_MOST_LAYERS = 16  # … and altogether
_LIBRARY = "library/"
_WHOLE_ID = re.compile(r"(?:sha(?:256|512):)?(?:[0-9a-f]{64}|[0-9a-f]{128})")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be pushed, and how. `to`: HOST/PREFIX; `platform`: of an index only this one's image, as it is."""

    references: tuple[str, ...]
    to: str | None = None
    platform: str | None = None
    all_tags: bool = False
    dry_run: bool = False
    jobs: int = 3  # images at a time


@dataclass(frozen=True, slots=True)
class Image:
    """An image's turn has come. `name` is what it is here, `target` what it will be there."""

    name: str
    target: str
    event: Literal["image"] = "image"


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image is there, whole. `size` is its manifest's; `bytes` are those of its layers and configs, `sent_bytes`
    those that went out. Layers are told without configs."""

    name: str
    target: str
    digest: str
    size: int
    sent_layers: int
    layers: int
    sent_bytes: int
    bytes: int
    mounted: int
    existing: int
    event: Literal["pushed"] = "pushed"


@dataclass(frozen=True, slots=True)
class Planned:
    """What pushing an image would send, at the most: what could be mounted is known only by trying. `fetch_bytes` are
    not here, and would be fetched first."""

    name: str
    target: str
    digest: str
    send_layers: int
    layers: int
    send_bytes: int
    bytes: int
    fetch_bytes: int
    event: Literal["plan"] = "plan"


Event = Image | Layer | Pushed | Planned | Note | Failed | End


@dataclass(frozen=True, slots=True)
class Place:
    """Where images go: below `prefix`, which may be empty, of a registry."""

    registry: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """HOST or HOST/PREFIX. Raises `RequestInvalid` where it does not begin with a registry, `NameInvalid`."""
        host, _, prefix = text.partition("/")
        if not is_registry(host):
            raise RequestInvalid(
                f"{text[:100]!r} does not begin with a registry: write it like ghcr.io/me, or docker.io/me"
            )
        return cls(canonical_registry(host), prefix.strip("/"))

    def of(self, source: Repository) -> Repository:
        """Where an image goes: its path stays, without the `library/` of docker.io. Raises `NameInvalid`."""
        path = source.path.removeprefix(_LIBRARY) if source.registry == DOCKER_HUB else source.path
        return Repository(self.registry, f"{self.prefix}/{path}" if self.prefix else path)


class Push:
    """The verb."""

    def __init__(self, sources: Sources, tasks: Tasks) -> None:
        self._sources = sources
        self._tasks = tasks

    def push(self, principal: Principal, asked: Wanted) -> AsyncGenerator[Event, None]:
        """Push everything that is asked for; one that fails does not stop the others. The last event is an `End`.

        Raises `RequestInvalid` for a platform or a place that is none, `NameUnknown` for a registry that is not
        configured.
        """
        platform = Platform.parse(asked.platform) if asked.platform is not None else None
        place = Place.parse(asked.to) if asked.to is not None else None
        if place is not None:
            self._sources.upstreams.destination(place.registry)

        async def work(feed: Feed[Event]) -> None:
            await _Batch(self._sources, self._tasks, principal, asked, platform, place, feed).run()

        return streamed(self._tasks, "push", work)


class _Batch:
    """One push of many images."""

    def __init__(
        self,
        sources: Sources,
        tasks: Tasks,
        principal: Principal,
        asked: Wanted,
        platform: Platform | None,
        place: Place | None,
        feed: Feed[Event],
    ) -> None:
        self._s = sources
        self._tasks = tasks
        self._principal = principal
        self._asked = asked
        self._platform = platform
        self._place = place
        self._feed = feed
        self._images = asyncio.Semaphore(asked.jobs)
        self._gate = asyncio.Semaphore(min(_LAYERS * asked.jobs, _MOST_LAYERS))
        self._begun: dict[Reference, Reference] = {}  # by where it goes
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

    async def _references(self, text: str) -> Sequence[Reference]:
        if _WHOLE_ID.fullmatch(text):
            raise NameInvalid(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
        reference = read_reference(self._s.names, text)
        if not self._asked.all_tags:
            return [reference]
        if tagged(text):
            raise RequestInvalid("tag can't be used with --all-tags/-a")
        repository = reference.repository
        self._s.rights.require(self._principal, Action.PULL, repository)
        found = [Reference(repository, tag, None) for tag in await self._s.catalog.tags(repository)]
        held = [each_ for each_ in found if await self._is_held(each_)]
        if not held:
            raise no_local_image(repository)
        return held

    async def _is_held(self, reference: Reference) -> bool:
        row = await self._s.catalog.tag(reference.repository, str(reference.target))
        kept = await self._s.manifests.held(reference.repository, row.manifest) if row is not None else None
        return kept is not None and self._s.sight.sees_link(self._principal, reference.repository, kept.link)

    async def _one(self, reference: Reference) -> None:
        async with self._images:
            try:
                target = self._target(reference)
                if self._begun.get(target) == reference:
                    return  # named twice
                await self._feed.tell(Image(str(reference), str(target)))
                event = await self._image(reference, target)
            except MirrorError as error:
                await self._fail(str(reference), error)
            else:
                self._ok += 1
                await self._feed.tell(event)

    async def _fail(self, name: str, error: MirrorError) -> None:
        self._failed += 1
        await self._feed.tell(failed(name, error))

    def _target(self, source: Reference) -> Reference:
        """Where an image goes. Raises `RequestInvalid` for an own one that is not told where."""
        home = source.repository
        if self._place is None and home.is_own:
            raise RequestInvalid(
                f"{home.familiar} is this mirror's own, and belongs to no registry: say where it goes, as in"
                " --to ghcr.io/me"
            )
        there = self._place.of(home) if self._place is not None else home
        return Reference(there, source.tag, source.digest if source.tag is None else None)

    # --- one image -------------------------------------------------------------------------------------------

    async def _image(self, source: Reference, target: Reference) -> Pushed | Planned:
        self._s.rights.require(self._principal, Action.PULL, source.repository)
        self._s.rights.require(self._principal, Action.PUSH, target.repository)
        other = self._begun.setdefault(target, source)
        if other != source:
            raise RequestInvalid(f"{source.familiar} would go where {other.familiar} goes: push one of them apart")
        telling = Telling(str(source), self._feed, self._s.clock)
        gathering = Gathering(
            self._s, self._principal, source, target.repository, telling, self._gate, dry_run=self._asked.dry_run
        )
        root = await gathering.root()
        if self._platform is not None:
            root = await gathering.only(root, self._platform)
        digest = root.descriptor.digest
        destination = Reference(target.repository, target.tag, None if target.tag is not None else digest)
        gathered = await gathering.whole(root)
        if self._asked.dry_run:
            foreseen = await self._s.transfers.compare(gathered.parcel, destination)
            return Planned(
                name=str(source),
                target=str(destination),
                digest=str(digest),
                send_layers=foreseen.layers,
                layers=foreseen.layers_in_all,
                send_bytes=foreseen.bytes,
                bytes=foreseen.bytes_in_all,
                fetch_bytes=gathered.fetched,
            )
        sent = await self._send(gathered.parcel, destination, telling)
        log.info("%s: %s", destination, sent, extra={"fields": {"image": str(destination), "sent_bytes": sent.bytes}})
        await self._note_sent(destination, root)
        return Pushed(
            name=str(source),
            target=str(destination),
            digest=str(digest),
            size=root.descriptor.size,
            sent_layers=sent.layers,
            layers=sent.layers_in_all,
            sent_bytes=sent.bytes,
            bytes=sent.bytes_in_all,
            mounted=sent.mounted,
            existing=sent.existing,
        )

    async def _send(self, parcel: Parcel, target: Reference, telling: Telling) -> Sent:
        """Send it, and tell. Nothing of it is deleted meanwhile, also where eviction takes the image."""
        made: list[Sent] = []

        async def work(news: Feed[Progress]) -> None:
            def tell(progress: Progress) -> None:
                (news.hint if progress.step is Step.PUSHING else news.post)(progress)

            made.append(await self._s.transfers.send(parcel, target, tell=tell))

        for blob in parcel.blobs:
            if not blob.is_config:
                layer = Layer(telling.name, str(blob.descriptor.digest), blob.descriptor.size, "preparing")
                await self._feed.tell(layer)
        async with AsyncExitStack() as stack:
            for digest in sorted(_parts(parcel)):
                await stack.enter_async_context(self._s.leases.hold(digest))
            async with aclosing(streamed(self._tasks, f"push {target}", work)) as all_news:
                async for progress in all_news:
                    await self._told(progress, telling)
        return made[0]

    async def _told(self, progress: Progress, telling: Telling) -> None:
        if progress.is_config:
            return
        digest, size = progress.digest, progress.size
        match progress.step:
            case Step.PUSHING:
                telling.hint(digest, size, "pushing", progress.done)
            case Step.MOUNTED:
                await self._feed.tell(
                    Layer(telling.name, str(digest), size, "mounted", size, await self._known(progress.mounted_from))
                )
            case Step.EXISTS:
                await self._feed.tell(Layer(telling.name, str(digest), size, "exists", size))
            case Step.PUSHED:
                await self._feed.tell(Layer(telling.name, str(digest), size, "pushed", size))
            case Step.SKIPPED:
                await self._feed.tell(Layer(telling.name, str(digest), size, "skipped"))
            case Step.MISSING:
                pass

    async def _known(self, repository: Repository | None) -> str | None:
        if repository is None or not await self._s.sight.knows(self._principal, repository):
            return None
        return str(repository)

    async def _note_sent(self, target: Reference, root: Manifest) -> None:
        """What its registry has just got is what it has, where that is known here: a pull does not find the one
        before."""
        repository, tag = target.repository, target.tag
        row = await self._s.catalog.tag(repository, tag) if tag is not None else None
        if tag is None or row is None or (row.origin is Origin.LOCAL and row.manifest != root.descriptor.digest):
            return
        await self._tasks.finish("pushed", self._move(repository, tag, row.manifest, root.descriptor.digest))

    async def _move(self, repository: Repository, tag: str, expected: Digest, digest: Digest) -> None:
        at, actor = self._s.clock.wall(), self._principal.actor
        try:
            await self._s.catalog.move_tag(repository, tag, expected, digest, Origin.UPSTREAM, at, actor)
        except StoreFailed as error:
            log.warning("that %s:%s was pushed is not written down: %s", repository, tag, error.message)
        self._s.tags.forget(repository, tag)


def _parts(parcel: Parcel) -> set[Digest]:
    held = {blob.descriptor.digest for blob in parcel.blobs if blob.held}
    return held | {descriptor.digest for descriptor in parcel.manifests} | {parcel.root.descriptor.digest}
