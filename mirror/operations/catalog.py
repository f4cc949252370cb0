"""`catalog`: which repositories are held, for whom, under the names that clients write for them here.

Pages are in the order of the names as they are written, which is not that of the store: own names and the default
registry's stand bare among each other, then come the others behind their registries.
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, aclosing

from mirror.cache.rights import Principal, Role
from mirror.cache.sight import Sight
from mirror.cache.spelling import Spelling
from mirror.oci.names import LOCAL, Repository
from mirror.store.inventory import Images

_BATCH = 200  # rows read at once
_LAST = "\U0010ffff"  # sorts behind every path
MATCHES = 2000
"""Repositories that a search looks through at the most."""

Named = tuple[str, Repository]


class Held:
    """What is held, as far as somebody may know of it. `registries` are those that can be asked for here."""

    def __init__(self, *, images: Images, sight: Sight, spelling: Spelling, registries: Iterable[str]) -> None:
        self._images = images
        self._sight = sight
        self._spelling = spelling
        self._registries = frozenset(registries)

    async def page(self, principal: Principal, last: str, count: int) -> tuple[list[str], bool]:
        """The first `count` names behind `last`, which need not be one of them, and whether there are more."""
        names: list[str] = []
        async with aclosing(self._behind(last)) as listed:
            async for name, repository in listed:
                if not await self.shows(principal, repository):
                    continue
                if len(names) == count:
                    return names, True
                names.append(name)
        return names, False

    async def search(
        self, principal: Principal, text: str, limit: int, registry: str | None = None
    ) -> list[Repository]:
        """Repositories (of this registry) whose name contains `text`, literally; those that are called so come first.

        What people leave out of a name (`docker.io/library/`) counts only where the text goes beyond one component.
        """
        text = text.lower()
        whole = "/" in text or "." in text
        found = [
            each
            for each in await self._images.search(text, MATCHES)
            if self._is_ours(each)
            and registry in (None, each.registry)
            and (whole or text in self._spelling.short(each))
        ]
        found.sort(key=lambda each: text not in (each.path, self._spelling.short(each), str(each)))
        shown: list[Repository] = []
        for repository in found:
            if len(shown) >= limit:
                break
            if await self.shows(principal, repository):
                shown.append(repository)
        return shown

    async def shows(self, principal: Principal, repository: Repository) -> bool:
        """Whether something of this repository is held that he may know of."""
        cursor: str | None = None
        while True:
            rows, cursor = await self._images.images(
                repository=repository, registry=None, cursor=cursor, limit=_BATCH if cursor else 1
            )
            if any(self._sight.sees(principal, row) for row in rows):
                return True
            if cursor is None or principal.role is Role.SOCKET:
                return False

    def _is_ours(self, repository: Repository) -> bool:
        """Whether it can be asked for: a registry may have been taken out of the settings since."""
        return repository.is_own or repository.registry in self._registries

    # --- in the order of the names ----------------------------------------------------------------------------

    async def _behind(self, last: str) -> AsyncGenerator[Named, None]:
        """All names behind `last`: three ordered lists, merged."""
        default = self._spelling.default_registry
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(aclosing(stream))
                for stream in (self._of(LOCAL, "", last), self._of(default, "", last), self._prefixed(last))
            ]
            heads = [(head, stream) for stream in streams if (head := await anext(stream, None)) is not None]
            while heads:
                place = min(range(len(heads)), key=lambda each: heads[each][0][0])
                head, stream = heads[place]
                yield head
                following = await anext(stream, None)
                if following is None:
                    del heads[place]
                else:
                    heads[place] = following, stream

    async def _prefixed(self, last: str) -> AsyncGenerator[Named, None]:
        """Names with their registry. No prefix is another's beginning, so each registry's names are together."""
        for registry in sorted(await self._holding(), key=lambda each: f"{each}/"):
            prefix = f"{registry}/"
            if last > prefix and not last.startswith(prefix):
                continue
            async with aclosing(self._of(registry, prefix, last)) as names:
                async for each in names:
                    yield each

    async def _of(self, registry: str, prefix: str, last: str) -> AsyncGenerator[Named, None]:
        """The names of one registry that are written with this prefix, those behind `last`."""
        place = (registry, last[len(prefix) :] if last.startswith(prefix) else "")
        while True:
            batch = await self._images.repositories(place, _BATCH)
            for repository in batch:
                if repository.registry != registry:
                    return
                name = self._spelling.written(repository)
                if name == prefix + repository.path:
                    yield name, repository
            if len(batch) < _BATCH:
                return
            place = registry, batch[-1].path

    async def _holding(self) -> list[str]:
        """The registries of which something is held, and that can be asked for."""
        found: list[str] = []
        place = ("", "")
        while batch := await self._images.repositories(place, 1):
            place = batch[0].registry, _LAST
            if batch[0].registry in self._registries:
                found.append(batch[0].registry)
        return found
