"""`images`: what is held, page by page, with docker's columns and two more.

SIZE is what is stored of an image, UNIQUE what of that no other image needs. A list names only what the asker may see,
and so do its cursors.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.cache.names import Names
from mirror.cache.rights import Principal
from mirror.cache.sight import Sight
from mirror.cache.uses import Uses
from mirror.clock import Clock
from mirror.errors import MirrorError
from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.oci.patterns import is_pattern
from mirror.operations import filters
from mirror.operations.composition import Child, Composition, Made
from mirror.operations.configs import Configs
from mirror.operations.filters import NamePattern
from mirror.operations.resolve import Resolver
from mirror.store.inventory import ImageRow, Weight, cursor_after

_BATCH = 500  # rows that the catalog is asked for at once: each batch holds the loop for some 10 ms
_TURN = 200  # images after which others get their turn


class Catalog(Protocol):
    """What of the catalog is needed here."""

    async def images(
        self, *, repository: Repository | None, registry: str | None, cursor: str | None, limit: int
    ) -> tuple[Sequence[ImageRow], str | None]: ...
    async def weigh(self, manifests: Sequence[Digest]) -> Mapping[Digest, Weight]: ...
    async def weigh_together(self, manifests: Sequence[Digest]) -> int: ...


@dataclass(frozen=True, slots=True)
class PlatformEntry:
    """One platform's image below an image. `size` in bytes: what is held of it."""

    platform: str
    digest: str
    id: str | None  # of its config, where that is known
    size: int
    held: bool
    attestation: bool


@dataclass(frozen=True, slots=True)
class Image:
    """One image. Sizes in bytes, None where nothing of it is here; times in wall seconds, but for `created`."""

    name: str  # the repository as people call it
    repository: str
    tag: str | None
    digest: str
    id: str | None  # the config of this machine's platform, or of the first one held
    created: str | None  # RFC 3339, as that config has it
    size: int | None
    unique: int | None
    last_pulled: float | None
    pinned: bool
    origin: str
    gone: bool  # its registry no longer has it
    complete: bool  # what is here of it can be served whole
    platforms: tuple[PlatformEntry, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """Of a whole list: how many images, and the bytes held below them, what they share counted once."""

    images: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list. `totals` come with its last page."""

    images: tuple[Image, ...]
    next: str | None
    totals: Totals | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which images: of a repository, or by a reference (each a pattern, too), and what `filters` say. `dangling`
    True: only those without a tag; False: only those with one."""

    repository: str | None = None
    reference: str | None = None
    filters: tuple[str, ...] = ()
    dangling: bool | None = None


Test = Callable[[ImageRow], bool]


@dataclass(frozen=True, slots=True)
class _Selection:
    """`Wanted`, read. `repository`: nothing outside of it. `before` and `since` in wall seconds."""

    repository: Repository | None
    tests: tuple[Test, ...]
    labels: tuple[tuple[str, str | None], ...]
    before: float | None
    since: float | None

    @property
    def looks_inside(self) -> bool:
        """Whether rows do not tell enough."""
        return bool(self.labels) or self.before is not None or self.since is not None


class Describer:
    """Rows of the catalog as people see them."""

    def __init__(self, *, catalog: Catalog, composition: Composition, names: Names) -> None:
        self._catalog = catalog
        self._composition = composition
        self._names = names

    async def images(self, principal: Principal, rows: Sequence[ImageRow]) -> list[Image]:
        """These rows, all of which he may see, described for him, in their order."""
        made = await self._composition.of(principal, rows)
        weights = await self._catalog.weigh(list(dict.fromkeys(row.manifest for row in rows)))
        images: list[Image] = []
        for place, (row, one) in enumerate(zip(rows, made, strict=True), start=1):
            images.append(self._image(row, one, weights.get(row.manifest)))
            if place % _TURN == 0:
                await asyncio.sleep(0)
        return images

    def _image(self, row: ImageRow, made: Made, weight: Weight | None) -> Image:
        return Image(
            name=self._names.familiar(row.repository),
            repository=str(row.repository),
            tag=row.tag,
            digest=str(row.manifest),
            id=_text(made.id),
            created=made.created,
            size=weight.size if weight else None,
            unique=weight.unique if weight else None,
            last_pulled=row.used_at,
            pinned=row.pinned,
            origin=row.origin.value,
            gone=row.gone_at is not None,
            complete=made.complete,
            platforms=tuple(map(entry, made.children)),
        )


class ImageList:
    """Lists images."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        describer: Describer,
        composition: Composition,
        configs: Configs,
        resolver: Resolver,
        sight: Sight,
        names: Names,
        uses: Uses,
        clock: Clock,
    ) -> None:
        self._uses = uses
        self._catalog = catalog
        self._describer = describer
        self._composition = composition
        self._configs = configs
        self._resolver = resolver
        self._sight = sight
        self._names = names
        self._clock = clock

    async def page(self, principal: Principal, wanted: Wanted, *, limit: int, cursor: str | None) -> Page:
        """Up to `limit` images after `cursor`, by repository and tag; those without a tag after all others.

        Raises `RequestInvalid` for a filter or a cursor that is none, `ManifestUnknown` where `before` or `since`
        name an image that is not there.
        """
        if cursor is None:
            await self._uses.flush()  # when each was last pulled, up to now
        selection = await self._selection(principal, wanted)
        found: list[ImageRow] = []
        async for row in self._rows(principal, selection, cursor, limit + 1):
            found.append(row)
            if len(found) > limit:
                break
        rows = found[:limit]
        images = tuple(await self._describer.images(principal, rows))
        if len(found) > limit:
            return Page(images, cursor_after(rows[-1]), None)
        return Page(images, None, await self._totals(principal, selection, rows if cursor is None else None))

    async def _totals(self, principal: Principal, selection: _Selection, rows: Sequence[ImageRow] | None) -> Totals:
        """Of these rows, or of the whole list anew."""
        count = 0
        manifests: dict[Digest, None] = {}
        if rows is not None:
            count, manifests = len(rows), dict.fromkeys(row.manifest for row in rows)
        else:
            async for row in self._rows(principal, selection, None, _BATCH):
                count += 1
                manifests[row.manifest] = None
        return Totals(count, await self._catalog.weigh_together(list(manifests)))

    # --- which ones ------------------------------------------------------------------------------------------

    async def _rows(
        self, principal: Principal, selection: _Selection, cursor: str | None, expected: int
    ) -> AsyncIterator[ImageRow]:
        """All rows that are meant, after `cursor`; `expected`: how many will do, most likely."""
        plain = not selection.tests and not selection.looks_inside
        size = min(_BATCH, expected) if plain else _BATCH
        while True:
            rows, cursor = await self._catalog.images(
                repository=selection.repository, registry=None, cursor=cursor, limit=size
            )
            rows = [row for row in rows if self._sight.sees(principal, row)]
            rows = [row for row in rows if all(test(row) for test in selection.tests)]
            for row in await self._inside(principal, selection, rows) if selection.looks_inside else rows:
                yield row
            if cursor is None:
                return

    async def _inside(self, principal: Principal, selection: _Selection, rows: Sequence[ImageRow]) -> list[ImageRow]:
        """Those rows whose config says what is wanted."""
        made = await self._composition.of(principal, rows)
        kept = [(row, one) for row, one in zip(rows, made, strict=True) if _in_time(selection, one)]
        if not selection.labels:
            return [row for row, _ in kept]
        labelled = await asyncio.gather(*(self._labels(row, one) for row, one in kept))
        return [row for (row, _), labels in zip(kept, labelled, strict=True) if _has(labels, selection.labels)]

    async def _labels(self, row: ImageRow, made: Made) -> Mapping[str, str]:
        chosen = made.chosen
        if chosen is None or chosen.config is None or not chosen.config_held:
            return {}
        return await self._configs.labels(row.repository, chosen.config)

    async def _selection(self, principal: Principal, wanted: Wanted) -> _Selection:
        read = filters.read(wanted.filters, now=self._clock.wall())
        repository, tests = self._named(wanted)
        if read.references:
            tests.append(self._any(read.references))
        for dangling in {wanted.dangling, read.dangling} - {None}:
            tests.append(_dangling if dangling else _tagged)
        before = [*read.until, *[await self._made_at(principal, text) for text in read.before]]
        since = [await self._made_at(principal, text) for text in read.since]
        return _Selection(
            repository,
            tuple(tests),
            read.labels,
            before=min(before) if before else None,
            since=max(since) if since else None,
        )

    def _named(self, wanted: Wanted) -> tuple[Repository | None, list[Test]]:
        """The one repository that is meant, if it is one, and what else names have to be."""
        tests: list[Test] = []
        homes: list[Repository] = []
        try:
            if wanted.repository is not None and not is_pattern(wanted.repository):
                homes.append(self._names.written(wanted.repository))
            if wanted.reference is not None and not is_pattern(wanted.reference):
                reference = self._names.reference(wanted.reference)
                homes.append(reference.repository)
                tests.append(_is_named(reference))
        except MirrorError:  # what is no name names nothing, as in docker
            return None, [_nothing]
        texts = [text for text in (wanted.repository, wanted.reference) if text is not None and is_pattern(text)]
        tests += [self._any([NamePattern(text)]) for text in texts]
        if len(set(homes)) > 1:
            return None, [_nothing]
        return (homes[0] if homes else None), tests

    def _any(self, patterns: Sequence[NamePattern]) -> Test:
        return lambda row: any(each.matches(row, self._names.familiar(row.repository)) for each in patterns)

    async def _made_at(self, principal: Principal, text: str) -> float:
        """When an image was made. Raises as `Resolver.find`."""
        row = (await self._resolver.find(principal, text)).rows[0]
        (made,) = await self._composition.of(principal, [row])
        return filters.instant(made.created)


def entry(child: Child) -> PlatformEntry:
    """A child as the API has it."""
    return PlatformEntry(
        platform=child.platform or "",
        digest=str(child.manifest),
        id=_text(child.config),
        size=child.size,
        held=child.held,
        attestation=child.attestation,
    )


def _text(digest: Digest | None) -> str | None:
    return str(digest) if digest is not None else None


def _is_named(reference: Reference) -> Test:
    if reference.digest is not None:
        return lambda row: row.manifest == reference.digest
    return lambda row: row.tag == reference.tag


def _dangling(row: ImageRow) -> bool:
    return row.tag is None


def _tagged(row: ImageRow) -> bool:
    return row.tag is not None


def _nothing(_: ImageRow) -> bool:
    return False


def _in_time(selection: _Selection, made: Made) -> bool:
    created = filters.instant(made.created)
    return (selection.before is None or created < selection.before) and (
        selection.since is None or created > selection.since
    )


def _has(labels: Mapping[str, str], wanted: Iterable[tuple[str, str | None]]) -> bool:
    return all(key in labels and value in (None, labels[key]) for key, value in wanted)
