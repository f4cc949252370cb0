"""How a client writes a repository: the inverse of `names`.

Own names stand bare, and so do the default registry's, but for those that an own name hides, or would hide: what
`[access] private` names is answered like an own name whether it exists or not.
"""

from collections.abc import Callable

from mirror.cache.ownership import OwnNames
from mirror.oci.names import DOCKER_HUB, LOCAL, Repository, is_registry

_LIBRARY = "library/"


class Spelling:
    """Names of repositories as texts. `own` are the mirror's own, `private` says of one whether it needs a rule."""

    def __init__(self, default_registry: str, own: OwnNames, private: Callable[[Repository], bool]) -> None:
        self.default_registry = default_registry
        self._own = own
        self._private = private

    def written(self, repository: Repository) -> str:
        """What a client writes behind this mirror's address, whole: `library/alpine`, `ghcr.io/org/app`, `team/app`."""
        return repository.path if repository.is_own or self.is_bare(repository) else str(repository)

    def short(self, repository: Repository) -> str:
        """The same as people write it: without the `library/` of docker.io."""
        name = self.written(repository)
        short = _without_library(name)
        return short if repository.registry == DOCKER_HUB and not self._hides(short) else name

    def familiar(self, repository: Repository) -> str:
        """What a person writes for the command line, where docker.io is the default always."""
        name = repository.familiar
        if repository.registry != DOCKER_HUB or name == str(repository):
            return name
        return str(repository) if self._hides(repository.path) or self._hides(name) else name

    def is_bare(self, repository: Repository) -> bool:
        """Whether this one of the default registry's is written without it."""
        if repository.registry != self.default_registry or self._hides(repository.path):
            return False
        return not is_registry(repository.path.partition("/")[0])

    def _hides(self, path: str) -> bool:
        """Whether this path without a registry means, or could mean, one of the mirror's own."""
        if is_registry(path.partition("/")[0]):
            return False
        return path in self._own or self._private(Repository(LOCAL, path))


def _without_library(name: str) -> str:
    rest = name.removeprefix(_LIBRARY)
    return rest if "/" not in rest else name
