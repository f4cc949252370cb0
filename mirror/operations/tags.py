"""`tags`: which tags a repository has, at its registry and here, and how they moved."""

import base64
import binascii
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.cache.listings import Listings
from mirror.cache.names import Names
from mirror.cache.policy import Policy
from mirror.cache.rights import Action, Principal, Rights
from mirror.cache.sight import Sight
from mirror.errors import NameUnknown, Offline, RequestInvalid, UpstreamNoAnswer
from mirror.oci.digest import Digest
from mirror.oci.names import LOCAL, Repository, is_registry
from mirror.oci.patterns import pattern
from mirror.operations.images import Describer
from mirror.store.inventory import ImageRow, Move

_BATCH = 1000
_HISTORY = 10_000  # moves of one repository that are looked at


class Catalog(Protocol):
    """What of the catalog is needed here."""

    async def images(
        self, *, repository: Repository | None, registry: str | None, cursor: str | None, limit: int
    ) -> tuple[Sequence[ImageRow], str | None]: ...
    async def history(self, repository: Repository, name: str | None, limit: int) -> Sequence[Move]: ...


@dataclass(frozen=True, slots=True)
class TagEntry:
    """One tag. What is not held is known by its name alone. `size` in bytes, `created` RFC 3339."""

    name: str
    digest: str | None
    platforms: tuple[str, ...] | None  # that are held
    size: int | None
    created: str | None
    cached: bool
    gone: bool  # its registry no longer has it


@dataclass(frozen=True, slots=True)
class MoveEntry:
    """A tag was set, or dropped where `digest` is None, at a wall time."""

    at: float
    name: str
    digest: str | None
    actor: str


@dataclass(frozen=True, slots=True)
class TagPage:
    """Part of a repository's tags, in ASCII order, or, where it was asked for, of its history, newest first.

    `warning`: why the registry's tags are not among them.
    """

    repository: str
    tags: tuple[TagEntry, ...]
    history: tuple[MoveEntry, ...]
    next: str | None
    warning: str | None


class TagList:
    """Lists tags."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        listings: Listings,
        describer: Describer,
        rights: Rights,
        sight: Sight,
        names: Names,
        policy: Policy,
    ) -> None:
        self._catalog = catalog
        self._listings = listings
        self._describer = describer
        self._rights = rights
        self._sight = sight
        self._names = names
        self._policy = policy

    async def tags(
        self, principal: Principal, name: str, *, match: str | None, limit: int, cursor: str | None
    ) -> TagPage:
        """Up to `limit` tags like `match` (a shell's pattern) after `cursor`.

        Raises `NameInvalid`, `NameUnknown` where there is nothing that he may know of, `RequestInvalid`.
        """
        repository = self._meant(principal, name)
        after = read_cursor(cursor) if cursor is not None else ""
        matches = pattern(match) if match is not None else _everything
        held, upstream, warning = await self._known(principal, repository)
        meant = sorted(tag for tag in upstream | held.keys() if tag > after and matches(tag))
        page = meant[:limit]
        more = len(meant) > limit
        return TagPage(
            repository=str(repository),
            tags=tuple(await self._entries(principal, page, held)),
            history=(),
            next=cursor_after(page[-1]) if more else None,
            warning=warning,
        )

    async def history(
        self, principal: Principal, name: str, *, match: str | None, limit: int, cursor: str | None
    ) -> TagPage:
        """Up to `limit` moves of tags like `match` before `cursor`, newest first. Raises as `tags`.

        Moves that come meanwhile change no page: a cursor tells how many older ones there were.
        """
        repository = self._meant(principal, name)
        matches = pattern(match) if match is not None else _everything
        if not await self._sight.knows(principal, repository):
            raise self._unknown(repository)
        moves = [move for move in await self._moves(principal, repository) if matches(move.name)]
        if not moves and not await self._held(principal, repository):
            raise self._unknown(repository)
        if cursor is not None:
            moves = moves[max(0, len(moves) - _count(read_cursor(cursor))) :]
        page = moves[:limit]
        left = len(moves) - len(page)
        return TagPage(
            repository=str(repository),
            tags=(),
            history=tuple(map(_move, page)),
            next=cursor_after(str(left)) if left else None,
            warning=None,
        )

    async def _moves(self, principal: Principal, repository: Repository) -> Sequence[Move]:
        """The moves that he may know of: whoever needs no proof of the mirror's, of all; others, of what they may see
        now. The repository may have been private once."""
        moves = await self._catalog.history(repository, None, _HISTORY)
        if repository.is_own or self._sight.trusts(principal, repository):
            return moves
        seen = {row.manifest async for row in self._rows(repository) if self._sight.sees(principal, row)}
        shown: list[Move] = []
        named: dict[str, bool] = {}  # whether what a tag named last is shown: else there is nothing to be dropped
        for move in reversed(moves):
            was, named[move.name] = named.get(move.name, False), move.manifest in seen
            if named[move.name] or (move.manifest is None and was):
                shown.append(move)
        return shown[::-1]

    def _meant(self, principal: Principal, name: str) -> Repository:
        """Whose tags are wanted. What `[access] private` names is unknown to whoever has no rule, also where there is
        no such repository and docker.io's would be meant."""
        repository = self._names.written(name)
        if not is_registry(name.partition("/")[0]):
            own = Repository(LOCAL, name)
            if self._rights.private(own) and not self._rights.allows(principal, Action.PULL, own):
                raise self._unknown(repository)
        return repository

    def _unknown(self, repository: Repository) -> NameUnknown:
        name = self._names.familiar(repository)
        return NameUnknown(f"{name} is not known", detail={"name": name})

    async def _known(
        self, principal: Principal, repository: Repository
    ) -> tuple[Mapping[str, ImageRow], frozenset[str], str | None]:
        """What is held, what its registry has, and why that is not known. Raises `NameUnknown` for nothing at all."""
        if not self._rights.allows(principal, Action.PULL, repository):
            raise self._unknown(repository)
        held = await self._held(principal, repository)
        upstream: frozenset[str] = frozenset()
        warning = None
        if not repository.is_own:
            try:
                upstream = frozenset(await self._listings.upstream_tags(principal, repository))
            except NameUnknown as error:
                if not held:
                    raise self._unknown(repository) from error
            except (UpstreamNoAnswer, Offline) as error:
                if not held:
                    raise
                warning = f"{error.message}; only what is held here is listed"
        if not held and not upstream:
            raise self._unknown(repository)
        return held, upstream, warning

    async def _held(self, principal: Principal, repository: Repository) -> Mapping[str, ImageRow]:
        """The tags that are held and that he may see."""
        found: dict[str, ImageRow] = {}
        async for row in self._rows(repository):
            if row.tag is None:
                break  # these come last
            if (row.gone_at is None or self._policy.keep_gone) and self._sight.sees(principal, row):
                found[row.tag] = row
        return found

    async def _rows(self, repository: Repository) -> AsyncIterator[ImageRow]:
        cursor = None
        while True:
            rows, cursor = await self._catalog.images(repository=repository, registry=None, cursor=cursor, limit=_BATCH)
            for row in rows:
                yield row
            if cursor is None:
                return

    async def _entries(
        self, principal: Principal, names: Sequence[str], held: Mapping[str, ImageRow]
    ) -> list[TagEntry]:
        described = await self._describer.images(principal, [held[name] for name in names if name in held])
        by_tag = {image.tag: image for image in described}
        entries = []
        for name in names:
            image = by_tag.get(name)
            if image is None:
                entries.append(TagEntry(name, None, None, None, None, cached=False, gone=False))
                continue
            platforms = tuple(
                each.platform for each in image.platforms if each.held and each.platform and not each.attestation
            )
            entries.append(
                TagEntry(name, image.digest, platforms, image.size, image.created, cached=True, gone=image.gone)
            )
        return entries


def cursor_after(text: str) -> str:
    """An opaque cursor."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> str:
    """What `cursor_after` was given. Raises `RequestInvalid`."""
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _no_cursor() from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _no_cursor()
    return int(text)


def _no_cursor() -> RequestInvalid:
    return RequestInvalid("the cursor is none that this mirror gave out")


def _move(move: Move) -> MoveEntry:
    return MoveEntry(move.at, move.name, _text(move.manifest), move.actor)


def _text(digest: Digest | None) -> str | None:
    return str(digest) if digest is not None else None


def _everything(_: str) -> bool:
    return True
