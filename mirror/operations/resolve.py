"""What a person's text means among the images that are held: a reference, a digest, an ID or the beginning of one.

As in docker a name comes first: `cafe` is the image `cafe:latest` where there is one, else whatever ID begins so. An ID
is the digest of a config or of a manifest, with or without its algorithm. What may not be seen is not there.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.cache.names import Names
from mirror.cache.rights import Principal, Rights
from mirror.cache.sight import Sight
from mirror.errors import ManifestUnknown, MirrorError, RequestInvalid
from mirror.oci.digest import Digest
from mirror.oci.manifest import Role
from mirror.oci.names import Reference, Repository
from mirror.operations.composition import EdgesSeen, Seen, edges_seen_below, view
from mirror.store.inventory import Edge, ImageRow

_ID = re.compile(r"(?:(sha256|sha512):)?([0-9a-f]{1,128})")
_WHOLE = {"sha256": 64, "sha512": 128}
_MOST = 1000  # images of one ID that are looked at
_LISTED = 5  # of what an ID may mean


class Catalog(EdgesSeen, Protocol):
    """What of the catalog is needed here."""

    async def image(self, repository: Repository, tag: str) -> ImageRow | None: ...
    async def find(self, prefix: str, limit: int) -> Sequence[ImageRow]: ...


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a text means. `rows`, at least one, are all images that it means, tags first.

    By a name there is one row, or, with a digest, one for each tag that names it in that repository. By an ID there is
    one for each tag anywhere, as of docker's image with several tags; `identity` is then the whole digest: a
    manifest's (`rows` have it), or a config's (it lies below what `rows` have).
    """

    rows: tuple[ImageRow, ...]
    reference: Reference | None
    identity: Digest | None

    @property
    def by_id(self) -> bool:
        """Whether no name was said."""
        return self.reference is None


def no_such_image(text: str) -> ManifestUnknown:
    """Docker's sentence."""
    return ManifestUnknown(f"No such image: {text}", detail={"name": text})


class Resolver:
    """Finds what is meant."""

    def __init__(self, *, catalog: Catalog, rights: Rights, sight: Sight, names: Names) -> None:
        self._catalog = catalog
        self._rights = rights
        self._sight = sight
        self._names = names

    async def find(self, principal: Principal, text: str) -> Meaning:
        """The images that he means. Raises `ManifestUnknown` ("No such image") where there is none that he may see,
        `RequestInvalid` where an ID may mean several. What is no name at all is an unknown image, too."""
        reference = self._reference(text)
        if reference is not None:
            rows = await self.named(principal, reference)
            if rows:
                return Meaning(rows, reference, None)
        meaning = await self.by_id(principal, text)
        if meaning is None:
            raise no_such_image(text if reference is None or _is_whole(text) else self.familiar(reference))
        return meaning

    async def named(self, principal: Principal, reference: Reference) -> tuple[ImageRow, ...]:
        """The image of a tag; or those of a digest in one repository: all its tags there, or, where it has none, the
        manifest alone. Empty where there is none that he may see."""
        if reference.digest is not None:
            found = await self._catalog.find(reference.digest.hex, _MOST)
            rows = [row for row in found if row.manifest == reference.digest and row.repository == reference.repository]
        else:
            one = await self._catalog.image(reference.repository, str(reference.target))
            rows = [one] if one is not None else []
        return tuple(row for row in rows if self._sight.sees(principal, row))

    async def by_id(self, principal: Principal, text: str) -> Meaning | None:
        """What an ID, or the beginning of one, means to him; None for nothing, and for what is no ID.

        Raises `RequestInvalid` where it may mean several.
        """
        match = _ID.fullmatch(text)
        if match is None:
            return None
        algorithm, prefix = match[1], match[2]
        rows = [row for row in await self._catalog.find(prefix, _MOST) if self._sight.sees(principal, row)]
        owners = await self._identities(principal, rows, algorithm, prefix)
        if not owners:
            return None
        if len(owners) > 1 and len({row.manifest for row in rows}) > 1:
            raise _ambiguous(text, {identity: self.name(found[0]) for identity, found in owners.items()})
        identity, found = next(iter(owners.items()))
        return Meaning(tuple(found), None, identity)

    def familiar(self, reference: Reference) -> str:
        """How a person would say it."""
        tag = f":{reference.tag}" if reference.tag else ""
        digest = f"@{reference.digest}" if reference.digest else ""
        return f"{self._names.familiar(reference.repository)}{tag}{digest}"

    def _reference(self, text: str) -> Reference | None:
        if _is_whole(text):
            return None
        try:
            return self._names.reference(text)
        except MirrorError:
            return None

    async def _identities(
        self, principal: Principal, rows: Sequence[ImageRow], algorithm: str | None, prefix: str
    ) -> dict[Digest, list[ImageRow]]:
        """The manifests and configs that begin so, with their images, in the order of the rows, as he sees them."""

        def begins(digest: Digest) -> bool:
            return digest.hex.startswith(prefix) and algorithm in (None, digest.algorithm)

        views = {home: view(self._rights, principal, home) for home in {row.repository for row in rows}}
        tops = [(views[row.repository], row.manifest) for row in rows]
        edges = await edges_seen_below(self._catalog, [top for top in tops if not begins(top[1])])
        found: dict[Digest, list[ImageRow]] = {}
        for row, top in zip(rows, tops, strict=True):
            meant = [row.manifest] if begins(row.manifest) else filter(begins, _configs(top, edges))
            for identity in meant:
                found.setdefault(identity, []).append(row)
        return found

    def name(self, row: ImageRow) -> str:
        """How a person would say which image it is."""
        name = self._names.familiar(row.repository)
        return f"{name}:{row.tag}" if row.tag is not None else f"{name}@{row.manifest}"


def _configs(top: Seen, edges: Mapping[Seen, Sequence[Edge]]) -> Iterable[Digest]:
    """The configs below a manifest, each once."""
    seen_in, manifest = top
    below, place = [manifest], 0
    configs: dict[Digest, None] = {}
    while place < len(below):
        for edge in edges.get((seen_in, below[place]), ()):
            if edge.role == Role.CONFIG:
                configs[edge.child] = None
            elif edge.role == Role.MANIFEST and edge.child not in below:
                below.append(edge.child)
        place += 1
    return configs


def _is_whole(text: str) -> bool:
    """Whether it is a whole digest, which is never a name (docker: `ParseAnyReference`)."""
    match = _ID.fullmatch(text)
    return match is not None and len(match[2]) == _WHOLE[match[1] or "sha256"]


def _ambiguous(text: str, meanings: dict[Digest, str]) -> RequestInvalid:
    listed = [f"{identity.short} ({name})" for identity, name in list(meanings.items())[:_LISTED]]
    more = f" and {len(meanings) - _LISTED} more" if len(meanings) > _LISTED else ""
    return RequestInvalid(
        f"multiple IDs found with provided prefix: {text}; it may mean {', '.join(listed)}{more}",
        detail={"ids": [str(identity) for identity in list(meanings)[:_LISTED]]},
    )
