"""Which repository a request means (design.md §5, "Names").

`oci.routes.parse` says what the request wrote; here it meets the configuration. Only configured registries
exist: whatever else is named is an unknown name, so that the mirror is no open proxy.
"""

from collections.abc import Iterable

from mirror.errors import NameInvalid, NameUnknown
from mirror.oci.names import Name, Repository, canonical_registry, with_library

_REMEMBERED = 20_000


class Names:
    """Repositories by request name and `Host`."""

    def __init__(self, default_registry: str, registries: Iterable[str]) -> None:
        self._default = default_registry
        self._registries = frozenset(registries)
        self._known: dict[tuple[Name, str], Repository] = {}

    def repository(self, name: Name, host: str) -> Repository:
        """The repository meant by `name` in a request whose `Host` header is `host` (may be empty).

        The registry is the one that the request names, else the one that its `Host` is, else the default one.
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

    def _resolve(self, name: Name, host: str) -> Repository:
        registry = name.registry or self._by_host(host) or self._default
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
