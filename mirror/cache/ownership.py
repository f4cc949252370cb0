"""Which names are the mirror's own, and who may make a new one (design.md §5, "Own names").

An own name answers requests that name no registry, and hides what the default registry has under it. So that nobody
can slip an image under a public name, a name becomes own only where the default registry says that it does not know
it, or the operator has said so (`own`, `offline`). Once own, always own: what is missing there is missing.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from mirror.cache.policy import Policy
from mirror.cache.proofs import Proofs
from mirror.errors import Denied, NameUnknown, UpstreamError, UpstreamGone
from mirror.oci.names import LOCAL, Repository
from mirror.upstream.protocols import Source, TagPage

ASK_WITHIN = 15.0  # seconds that the default registry has to say whether it knows a name
_LIBRARY = "library/"


class OwnNames:
    """The paths of the mirror's own repositories, in memory: every request that names no registry asks it."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._paths = set(paths)
        self._watchers: list[Callable[[], None]] = []

    def __contains__(self, path: str) -> bool:
        return path in self._paths

    def add(self, path: str) -> None:
        """From now on this name is own. Whoever remembers what names mean is told at once."""
        if path not in self._paths:
            self._paths.add(path)
            for told in self._watchers:
                told()

    def watch(self, told: Callable[[], None]) -> None:
        """Call `told` whenever a name becomes own."""
        self._watchers.append(told)


class Catalog(Protocol):
    """What of the catalog is needed here."""

    async def own_repositories(self) -> Iterable[Repository]: ...


class Ownership:
    """Who may make a name the mirror's own.

    `declared` says of an own repository whether the operator lists its name in `own`.
    """

    def __init__(
        self,
        *,
        names: OwnNames,
        catalog: Catalog,
        proofs: Proofs,
        policy: Policy,
        default_registry: str,
        declared: Callable[[Repository], bool],
    ) -> None:
        self._names = names
        self._catalog = catalog
        self._proofs = proofs
        self._policy = policy
        self._default = default_registry
        self._declared = declared

    async def load(self) -> None:
        """Read the names that are own already. To be done before the first request."""
        for repository in await self._catalog.own_repositories():
            self._names.add(repository.path)

    def is_own(self, path: str) -> bool:
        return path in self._names

    def declares(self, path: str) -> bool:
        """Whether the operator lists this name in `own`, and it may be."""
        return not path.startswith(_LIBRARY) and self._declared(Repository(LOCAL, path))

    def hidden(self, path: str) -> Repository:
        """What a request without a registry means by this path while the name is not own."""
        return Repository(self._default, path)

    async def permit(self, path: str) -> Repository:
        """The own repository of this name, if it is one or may become one. Raises `Denied`, saying what to write.

        Whoever then puts something there tells `made` once that is written down.
        """
        own = Repository(LOCAL, path)
        if path in self._names:
            return own
        if path.startswith(_LIBRARY):
            raise Denied(f"{path}: library/ is the default registry's, and never a name of this mirror's own")
        if self._policy.offline or self.declares(path):
            return own
        public = self.hidden(path)
        try:
            async with asyncio.timeout(ASK_WITHIN):
                known = await self._is_known(public)
        except TimeoutError:
            raise _unasked(path, public, f"{public.registry} gave no answer in time") from None
        except UpstreamError as error:
            raise _unasked(path, public, error.message) from error
        if known:
            raise Denied(
                f"{path} is a repository of {public.registry}, which an own one of this name would hide: choose another"
                f' name, or list it in the settings, own = ["{path}"]'
            )
        return own

    def made(self, repository: Repository) -> None:
        """Something lies there now: the name is own from here on."""
        self._names.add(repository.path)

    async def _is_known(self, public: Repository) -> bool:
        """Whether the default registry has a repository of this name, as far as anybody here may see it.

        Raises an `UpstreamError` where it does not say.
        """

        async def ask(source: Source) -> TagPage:
            return await source.tags(public, None)

        try:
            sources = await self._proofs.sources(public, trusted=True)
            await self._proofs.first(sources, public, ("tags", ""), ask, anew=True)
        except (UpstreamGone, NameUnknown):  # NameUnknown: no such registry here, so there is nothing to hide
            return False
        return True


def _unasked(path: str, public: Repository, why: str) -> Denied:
    return Denied(
        f"whether {path} is a repository of {public.registry} could not be asked ({why}), and an own one of this name"
        f' would hide it: list the name in the settings, own = ["{path}"], or try again later'
    )
