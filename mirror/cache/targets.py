"""Where a push goes, and whether it may (design.md §5, "Own names" and "Push").

Without a registry in its name a push is meant for the mirror's own repository, whatever a pull of that name would lead
to. Under a registry's name its `push` setting decides.
"""

from mirror.cache.names import Names
from mirror.cache.ownership import Ownership
from mirror.cache.policy import Policy, PushMode
from mirror.cache.rights import Action, Principal, Rights
from mirror.errors import NameUnknown, Unsupported
from mirror.oci.names import LOCAL, Name, Repository


class Targets:
    """Repositories that are written to."""

    def __init__(self, *, names: Names, ownership: Ownership, rights: Rights, policy: Policy) -> None:
        self._names = names
        self._ownership = ownership
        self._rights = rights
        self._policy = policy

    def meant(self, name: Name, host: str) -> Repository:
        """The repository that a writing request with this `Host` means. Raises `NameUnknown` for a registry that is not
        configured."""
        if name.registry is None and not self._names.is_registry(host):
            return Repository(LOCAL, name.path)
        return self._names.repository(name, host)

    def asks_before_pushing(self, principal: Principal, name: Name, host: str) -> Repository | None:
        """The own repository that a HEAD of a blob is about, where a push of his would make one of that name without
        asking anybody (`own`): what the default registry has there is no reason to send nothing. Else None."""
        if name.registry is not None or self._names.is_registry(host) or not self._ownership.declares(name.path):
            return None
        own = Repository(LOCAL, name.path)
        return own if self._rights.allows(principal, Action.PUSH, own) else None

    async def permit(self, principal: Principal, repository: Repository) -> None:
        """Let him push there. Raises `Denied`, `Unauthorized` or `NameUnknown` where he may not, `Denied` also for a
        name that may not become own, `Unsupported` where the registry's `push` is "deny"."""
        self._require(principal, Action.PUSH, repository)
        if repository.is_own:
            await self._ownership.permit(repository.path)
        else:
            self.check_mode(repository)

    def permit_removal(self, principal: Principal, repository: Repository) -> None:
        """Let him delete there. Raises as `permit`; `NameUnknown` as well where there is no such own name."""
        self._require(principal, Action.DELETE, repository)
        if not repository.is_own:
            self.check_mode(repository)
        elif not self._ownership.is_own(repository.path):
            raise NameUnknown(f"{repository.path} is not known here", detail={"name": repository.path})

    def made(self, repository: Repository) -> None:
        """Something was put there, and written down."""
        if repository.is_own:
            self._ownership.made(repository)

    def mode(self, repository: Repository) -> PushMode:
        """What becomes of what is put there."""
        return PushMode.LOCAL if repository.is_own else self._policy.of(repository.registry).push

    def check_mode(self, repository: Repository) -> None:
        """Raises `Unsupported` where its registry's `push` is "deny"."""
        if self.mode(repository) is PushMode.DENY:
            registry = repository.registry
            raise Unsupported(
                f"this mirror takes no pushes for {registry}: its operator can set push in"
                f' [registries."{registry}"]; a name without a registry, as in team/app, is the mirror\'s own',
                detail={"registry": registry, "push": "deny"},
            )

    def _require(self, principal: Principal, action: Action, repository: Repository) -> None:
        self._rights.require(principal, action, repository)
