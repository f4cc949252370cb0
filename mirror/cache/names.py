"""Which repository a request means (design.md §5, "Names").

`oci.routes.parse` says what the request wrote; here it meets the configuration. Only configured registries
exist: whatever else is named is an unknown name, so that the mirror is no open proxy.
"""

from collections.abc import Callable, Iterable

from mirror.cache.ownership import OwnNames
from mirror.errors import NameInvalid, NameUnknown
from mirror.oci.digest import Digest
from mirror.oci.names import (
    DOCKER_HUB,
    LOCAL,
    Name,
    Reference,
    Repository,
    canonical_registry,
    split_reference,
    with_library,
)

_REMEMBERED = 20_000


class Names:
    """Repositories by request name and `Host`.

    `own`: the names of the mirror's own repositories. They answer requests that name no registry, and no other.
    """

    def __init__(self, default_registry: str, registries: Iterable[str], own: OwnNames | None = None) -> None:
        self._default = default_registry
        self._registries = frozenset(registries)
        self._own = own if own is not None else OwnNames()
        self._known: dict[tuple[Name, str], Repository] = {}
        self._own.watch(self._known.clear)

    def watch(self, told: Callable[[], None]) -> None:
        """Call `told` whenever names may mean something else than before."""
        self._own.watch(told)

    def repository(self, name: Name, host: str) -> Repository:
        """The repository meant by `name` in a request whose `Host` header is `host` (may be empty).

        The registry is the one that the request names, else the one that its `Host` is; without either it is the
        mirror's own repository of that name, if there is one, else the default registry's.
        Raises `NameUnknown` where that registry is not configured.
        """
        key = (name, host)
        repository = self._known.get(key)
        if repository is None:
            repository = self._resolve(name, host)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[key] = repository
        return repository

    def is_registry(self, host: str) -> bool:
        """Whether this `Host` is a configured registry's own name."""
        return self._by_host(host) is not None

    def written(self, text: str) -> Repository:
        """The repository that a person means: without a registry the mirror's own one of that name, if there is one,
        else docker.io's. Raises `NameInvalid`."""
        return Repository(LOCAL, text) if text in self._own else Repository.parse(text)

    def reference(self, text: str) -> Reference:
        """What a person means by `name[:tag][@digest]`, with own names as in `written`. Raises as `Reference.parse`."""
        name, tag, digest = split_reference(text)
        return Reference(self.written(name), tag, Digest.parse(digest) if digest is not None else None)

    def familiar(self, repository: Repository) -> str:
        """The shortest name by which a person may call it, which `written` reads back: own ones bare, what one of
        them hides with its registry, `docker.io/alpine`."""
        short = repository.familiar
        return f"{DOCKER_HUB}/{short}" if not repository.is_own and short in self._own else short

    def _resolve(self, name: Name, host: str) -> Repository:
        registry = name.registry or self._by_host(host)
        if registry is None and name.path in self._own:
            return Repository(LOCAL, name.path)
        registry = registry or self._default
        if registry not in self._registries:
            raise NameUnknown(
                f'registry {registry} is not configured here; its operator can add [registries."{registry}"]',
                detail={"registry": registry},
            )
        return Repository(registry, with_library(registry, name.path))

    def _by_host(self, host: str) -> str | None:
        try:
            registry = canonical_registry(host)
        except NameInvalid:
            return None
        return registry if registry in self._registries else None
