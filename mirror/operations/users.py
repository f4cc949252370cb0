"""`user add`, `remove`, `list`: who may log in at this mirror. What they may do stands in the settings."""

import logging

from mirror.cache.rights import Principal
from mirror.cache.users import Users
from mirror.config.usernames import check_username
from mirror.errors import NameUnknown, RequestInvalid

log = logging.getLogger(__name__)


class UserAccounts:
    """The users that the htpasswd file holds; None where the settings name no such file."""

    def __init__(self, users: Users | None) -> None:
        self._users = users

    async def add(self, principal: Principal, name: str, password: str) -> bool:
        """Add a user, or give one a new password; True if he is new. Raises `RequestInvalid` for a name or a password
        that cannot be kept, `StoreFailed` where the file cannot be written."""
        users = self._needed()
        try:
            check_username(name)
        except ValueError as error:
            raise RequestInvalid(str(error)) from None
        new = await users.add(name, password)
        log.info("user %s %s by %s", name, "added" if new else "has a new password", principal.actor)
        return new

    async def remove(self, principal: Principal, name: str) -> None:
        """Take a user away; his password is refused from then on. Raises `NameUnknown` where there is none."""
        if not await self._needed().remove(name):
            raise NameUnknown(f"there is no user {name[:100]!r}")
        log.info("user %s removed by %s", name, principal.actor)

    async def list(self) -> list[str]:
        """The users' names, in order."""
        return await self._needed().names()

    def _needed(self) -> Users:
        if self._users is None:
            raise RequestInvalid(
                'this mirror has no users: write htpasswd = "/etc/mirror/htpasswd" below [access] into its settings,'
                " and start it again"
            )
        return self._users
