"""What images are made of, as the catalog knows it: platforms, configs, what is held of them.

An index stands for one of its images: that of this machine's platform, else the first one that is held. The ID of an
image is the digest of its config, as in docker.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from mirror.cache.rights import Principal, Rights
from mirror.oci.digest import Digest
from mirror.oci.manifest import INDEX_TYPES, Role, is_foreign
from mirror.oci.names import Repository
from mirror.operations import platforms
from mirror.operations.configs import Configs
from mirror.operations.platforms import Platform
from mirror.store.inventory import ConfigFacts, Edge, ImageRow, View

Seen = tuple[View, Digest]
"""A manifest in the view of somebody."""

Named = TypeVar("Named", bound=Hashable)

_AT_ONCE = 200  # manifests described before others get their turn
_DEPTH = 8  # of indexes in indexes
_UNKNOWN = re.compile(r"unknown/unknown(/.*)?")


class EdgesSeen(Protocol):
    """What of the catalog is needed here."""

    async def edges_seen(self, manifests: Sequence[Seen]) -> Mapping[Seen, Sequence[Edge]]: ...


class Edges(Protocol):
    """What of the catalog is needed where nobody looks."""

    async def edges(self, manifests: Sequence[Digest]) -> Sequence[Edge]: ...


@dataclass(frozen=True, slots=True)
class Child:
    """One image of an index, or an image that is in none. `size` in bytes: what is held of it.

    Held is what is here and may be seen under the image's repository, as in all of this module: what it merely names,
    and another repository holds, is not.
    """

    platform: str | None
    manifest: Digest
    config: Digest | None
    config_held: bool
    size: int
    held: bool
    complete: bool  # everything that its manifest names is here

    @property
    def attestation(self) -> bool:
        """Whether it speaks of another image (BuildKit's attestations, by their platform)."""
        return is_attestation(self.platform)


@dataclass(frozen=True, slots=True)
class Made:
    """What an image is made of. `chosen` is the child that it stands for, where one is held."""

    children: tuple[Child, ...]
    chosen: Child | None
    created: str | None  # RFC 3339, as the chosen one's config has it
    complete: bool  # what is here of it can be served whole

    @property
    def id(self) -> Digest | None:
        """The chosen one's config."""
        return self.chosen.config if self.chosen else None


NOTHING = Made((), None, None, complete=False)


def is_attestation(platform: str | None) -> bool:
    """Whether this platform is none."""
    return platform is not None and _UNKNOWN.fullmatch(platform) is not None


def choose(wish: Platform, children: Iterable[Child]) -> Child | None:
    """The held one of `children` that serves `wish` best."""
    offered = [(each, platforms.written(each.platform)) for each in children if each.held and not each.attestation]
    return platforms.best(wish, [(child, platform) for child, platform in offered if platform is not None])


def view(rights: Rights, principal: Principal, repository: Repository) -> View:
    """How he sees it. How old a proof is, is asked of an image's own link (`Sight.sees`), which its registry confirms;
    what it shows of the image goes with that."""
    return View(repository, rights.trusted(principal, repository))


async def edges_below(catalog: Edges, manifests: Iterable[Digest]) -> Mapping[Digest, Sequence[Edge]]:
    """What these held manifests name, and the held manifests below them, by manifest: whoever holds them."""

    async def ask(some: Sequence[Digest]) -> Mapping[Digest, Sequence[Edge]]:
        found: dict[Digest, list[Edge]] = {manifest: [] for manifest in some}
        for edge in await catalog.edges(some):
            found[edge.parent].append(edge)
        return found

    return await _below(manifests, ask, lambda _, child: child)


async def edges_seen_below(catalog: EdgesSeen, manifests: Iterable[Seen]) -> Mapping[Seen, Sequence[Edge]]:
    """As `edges_below`, as far as each view shows it."""
    return await _below(manifests, catalog.edges_seen, lambda seen, child: (seen[0], child))


async def _below(
    manifests: Iterable[Named],
    ask: Callable[[Sequence[Named]], Awaitable[Mapping[Named, Sequence[Edge]]]],
    named: Callable[[Named, Digest], Named],
) -> Mapping[Named, Sequence[Edge]]:
    """Level by level; `named`: as what one's child is asked about."""
    found: dict[Named, Sequence[Edge]] = {}
    level = list(dict.fromkeys(manifests))
    for _ in range(_DEPTH):
        if not level:
            break
        for start in range(0, len(level), _AT_ONCE):
            found.update(await ask(level[start : start + _AT_ONCE]))
        below = (
            named(each, edge.child)
            for each in level
            for edge in found[each]
            if edge.role == Role.MANIFEST and edge.held
        )
        level = list(dict.fromkeys(child for child in below if child not in found))
    return found


class Composition:
    """Describes images, many at a time."""

    def __init__(self, *, catalog: EdgesSeen, configs: Configs, rights: Rights, host: Platform | None = None) -> None:
        self._catalog = catalog
        self._configs = configs
        self._rights = rights
        self._host = host or platforms.host()

    async def of(self, principal: Principal, rows: Sequence[ImageRow]) -> list[Made]:
        """What each of these images, which he may see, is made of for him, in their order. Never fails for one of them:
        what cannot be read is None."""
        views = {home: self.view(principal, home) for home in {row.repository for row in rows}}
        tops = {(views[row.repository], row.manifest): row for row in rows}
        found: dict[Seen, Made] = {}
        for start in range(0, len(tops), _AT_ONCE):
            found.update(await self._some(dict(list(tops.items())[start : start + _AT_ONCE])))
            await asyncio.sleep(0)
        return [found[views[row.repository], row.manifest] for row in rows]

    def view(self, principal: Principal, repository: Repository) -> View:
        """How he sees it."""
        return view(self._rights, principal, repository)

    async def _some(self, tops: Mapping[Seen, ImageRow]) -> Mapping[Seen, Made]:
        edges = await edges_seen_below(self._catalog, tops)
        made: dict[Seen, Made] = {}
        wanted: dict[Digest, tuple[Repository, Edge]] = {}
        for seen, row in tops.items():
            mine = _In(seen[0], edges)
            made[seen] = one = self._made(row, mine)
            config = _config(mine.of(one.chosen.manifest)) if one.chosen else None
            if one.chosen is not None and config is not None and config.held:
                wanted[one.chosen.manifest] = (row.repository, config)
        facts = await self._configs.facts(wanted)
        return {seen: self._dated(one, facts) for seen, one in made.items()}

    def _made(self, row: ImageRow, edges: "_In") -> Made:
        own = edges.of(row.manifest)
        if row.media_type not in INDEX_TYPES:
            if not own:  # quarantined; or an artifact of nothing
                return NOTHING
            child = _child(None, row.manifest, row.manifest_size, own, held=True)
            return Made((child,), child, None, complete=child.complete)
        children = tuple(_children(row.manifest, edges))
        held = [child for child in children if child.held and not child.attestation]
        chosen = choose(self._host, held) or next(iter(held), None)
        others = [edge for edge in own if edge.role != Role.MANIFEST]  # of BuildKit's cache images
        whole = all(child.complete for child in held) and all(edge.held for edge in others)
        return Made(children, chosen, None, complete=whole and bool(held or others))

    def _dated(self, made: Made, facts: Mapping[Digest, ConfigFacts]) -> Made:
        """With what the chosen one's config says."""
        if made.chosen is None or not made.chosen.config_held:
            return made
        known = facts.get(made.chosen.manifest)
        if known is None:
            return made
        if made.chosen.platform is None and len(made.children) == 1:
            only = replace(made.chosen, platform=known.platform or None)
            return replace(made, children=(only,), chosen=only, created=known.created)
        return replace(made, created=known.created)


@dataclass(frozen=True, slots=True)
class _In:
    """The edges of one view."""

    view: View
    all: Mapping[Seen, Sequence[Edge]]

    def of(self, manifest: Digest) -> Sequence[Edge]:
        return self.all.get((self.view, manifest), ())


def _children(index: Digest, edges: _In, depth: int = _DEPTH) -> Iterator[Child]:
    """The images of an index, those of indexes in it with them, each once."""
    seen: set[Digest] = set()
    for edge in edges.of(index):
        if edge.role != Role.MANIFEST or edge.child in seen:
            continue
        seen.add(edge.child)
        if edge.media_type in INDEX_TYPES and edge.held and depth > 1:
            yield from _children(edge.child, edges, depth - 1)
        else:
            yield _child(edge.platform, edge.child, edge.size, edges.of(edge.child), held=edge.held)


def _child(platform: str | None, manifest: Digest, size: int, edges: Sequence[Edge], *, held: bool) -> Child:
    here = {edge.child: edge.size for edge in edges if edge.held}
    config = _config(edges)
    return Child(
        platform=platform,
        manifest=manifest,
        config=config.child if config else None,
        config_held=held and config is not None and config.held,
        size=size + sum(here.values()) if held else 0,
        held=held,
        complete=held and bool(edges) and all(edge.held or is_foreign(edge.media_type) for edge in edges),
    )


def _config(edges: Iterable[Edge]) -> Edge | None:
    return next((edge for edge in edges if edge.role == Role.CONFIG), None)
