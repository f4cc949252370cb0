"""What images are made of, as the catalog knows it: platforms, configs, what is held of them.

An index stands for one of its images: that of this machine's platform, else the first one that is held. The ID of an
image is the digest of its config, as in docker.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mirror.oci.digest import Digest
from mirror.oci.manifest import INDEX_TYPES, Role, is_foreign
from mirror.oci.names import Repository
from mirror.operations import platforms
from mirror.operations.configs import Configs
from mirror.operations.platforms import Platform
from mirror.store.inventory import ConfigFacts, Edge, ImageRow

_AT_ONCE = 200  # manifests described before others get their turn
_DEPTH = 8  # of indexes in indexes
_UNKNOWN = re.compile(r"unknown/unknown(/.*)?")


class Catalog(Protocol):
    """What of the catalog is needed here."""

    async def edges(self, manifests: Sequence[Digest]) -> Sequence[Edge]: ...


@dataclass(frozen=True, slots=True)
class Child:
    """One image of an index, or an image that is in none. `size` in bytes: what is held of it."""

    platform: str | None
    manifest: Digest
    config: Digest | None
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


async def edges_below(catalog: Catalog, manifests: Iterable[Digest]) -> Mapping[Digest, Sequence[Edge]]:
    """What these held manifests name, and the held manifests below them, by manifest."""
    found: dict[Digest, list[Edge]] = {}
    level = list(dict.fromkeys(manifests))
    for _ in range(_DEPTH):
        if not level:
            break
        found.update({manifest: [] for manifest in level})
        for start in range(0, len(level), _AT_ONCE):
            for edge in await catalog.edges(level[start : start + _AT_ONCE]):
                found[edge.parent].append(edge)
        below = (edge for manifest in level for edge in found[manifest] if edge.role == Role.MANIFEST and edge.held)
        level = list(dict.fromkeys(edge.child for edge in below if edge.child not in found))
    return found


class Composition:
    """Describes images, many at a time."""

    def __init__(self, *, catalog: Catalog, configs: Configs, host: Platform | None = None) -> None:
        self._catalog = catalog
        self._configs = configs
        self._host = host or platforms.host()

    async def of(self, rows: Sequence[ImageRow]) -> Mapping[Digest, Made]:
        """What each of these images' manifests is made of. Never fails for one of them: what cannot be read is None."""
        tops = {row.manifest: row for row in rows}
        found: dict[Digest, Made] = {}
        for start in range(0, len(tops), _AT_ONCE):
            some = list(tops.values())[start : start + _AT_ONCE]
            found.update(await self._some(some))
            await asyncio.sleep(0)
        return found

    async def _some(self, rows: Sequence[ImageRow]) -> Mapping[Digest, Made]:
        edges = await edges_below(self._catalog, [row.manifest for row in rows])
        made: dict[Digest, Made] = {}
        wanted: dict[Digest, tuple[Repository, Edge]] = {}
        for row in rows:
            made[row.manifest] = one = self._made(row, edges)
            config = _config(edges.get(one.chosen.manifest, ())) if one.chosen else None
            if one.chosen is not None and config is not None:
                wanted[one.chosen.manifest] = (row.repository, config)
        facts = await self._configs.facts(wanted)
        return {digest: self._dated(one, facts) for digest, one in made.items()}

    def _made(self, row: ImageRow, edges: Mapping[Digest, Sequence[Edge]]) -> Made:
        own = edges.get(row.manifest, ())
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
        known = facts.get(made.chosen.manifest) if made.chosen else None
        if known is None or made.chosen is None:
            return made
        if made.chosen.platform is None and len(made.children) == 1:
            only = replace(made.chosen, platform=known.platform or None)
            return replace(made, children=(only,), chosen=only, created=known.created)
        return replace(made, created=known.created)


def _children(index: Digest, edges: Mapping[Digest, Sequence[Edge]], depth: int = _DEPTH) -> Iterator[Child]:
    """The images of an index, those of indexes in it with them, each once."""
    seen: set[Digest] = set()
    for edge in edges.get(index, ()):
        if edge.role != Role.MANIFEST or edge.child in seen:
            continue
        seen.add(edge.child)
        if edge.media_type in INDEX_TYPES and edge.held and depth > 1:
            yield from _children(edge.child, edges, depth - 1)
        else:
            yield _child(edge.platform, edge.child, edge.size, edges.get(edge.child, ()), held=edge.held)


def _child(platform: str | None, manifest: Digest, size: int, edges: Sequence[Edge], *, held: bool) -> Child:
    here = {edge.child: edge.size for edge in edges if edge.held}
    config = _config(edges)
    return Child(
        platform=platform,
        manifest=manifest,
        config=config.child if config else None,
        size=size + sum(here.values()) if held else 0,
        held=held,
        complete=held and bool(edges) and all(edge.held or is_foreign(edge.media_type) for edge in edges),
    )


def _config(edges: Iterable[Edge]) -> Edge | None:
    return next((edge for edge in edges if edge.role == Role.CONFIG), None)
