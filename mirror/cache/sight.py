"""What of the mirror's lists a principal may know of (design.md §4): what one may not see is not there.

Lists are told from what is held, without asking anybody: a repository that is private upstream is listed to those who
may read it, everything to the mirror's own socket.
"""

from mirror.cache.proofs import Proofs
from mirror.cache.rights import Action, Principal, Rights, Role
from mirror.oci.names import Repository
from mirror.store.inventory import ImageRow
from mirror.store.protocols import Link


class Sight:
    """Which rows of the catalog somebody may be shown."""

    def __init__(self, *, rights: Rights, proofs: Proofs) -> None:
        self._rights = rights
        self._proofs = proofs

    def sees(self, principal: Principal, row: ImageRow) -> bool:
        """Whether this image may be named to him."""
        return self.sees_link(principal, row.repository, row.link)

    def sees_link(self, principal: Principal, repository: Repository, link: Link) -> bool:
        """Whether what this link links may be named to him under this repository."""
        if principal.role is Role.SOCKET:
            return True
        if not self._rights.allows(principal, Action.PULL, repository):
            return False
        return self._proofs.visible(link, repository, trusted=self._proofs.trusted(principal, repository))

    def trusts(self, principal: Principal, repository: Repository) -> bool:
        """Whether he may know of all that was ever held of this repository."""
        return principal.role is Role.SOCKET or self._proofs.trusted(principal, repository)

    async def knows(self, principal: Principal, repository: Repository) -> bool:
        """Whether this repository may be named to him at all."""
        if principal.role is Role.SOCKET:
            return True
        if not self._rights.allows(principal, Action.PULL, repository):
            return False
        return await self._proofs.nameable(repository, trusted=self._proofs.trusted(principal, repository))
