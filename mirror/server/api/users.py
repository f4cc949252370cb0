"""`/api/v1/users`: who may log in at this mirror."""

from dataclasses import dataclass, field

from mirror.operations.users import UserAccounts
from mirror.server.api.endpoint import Asked, Done, Endpoint


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user and his password, which is kept as a bcrypt hash."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UserQuery:
    username: str


@dataclass(frozen=True, slots=True)
class Added:
    """`new`: he was not there before; else he has a new password."""

    username: str
    new: bool


@dataclass(frozen=True, slots=True)
class User:
    username: str


@dataclass(frozen=True, slots=True)
class UserList:
    """Every user whose password counts, by name."""

    users: list[User]


def endpoints(accounts: UserAccounts) -> list[Endpoint]:
    """The routes of this resource."""

    async def show(asked: Asked) -> UserList:
        del asked
        return UserList([User(name) for name in await accounts.list()])

    async def add(asked: Asked) -> Added:
        body: NewUser = asked.body
        return Added(body.username, await accounts.add(asked.principal, body.username, body.password))

    async def remove(asked: Asked) -> Done:
        query: UserQuery = asked.query
        await accounts.remove(asked.principal, query.username)
        return Done()

    return [
        Endpoint("GET", "/users", "The users of this mirror", show, UserList),
        Endpoint("POST", "/users", "Add a user, or give one a new password", add, Added, body=NewUser),
        Endpoint("DELETE", "/users", "Remove a user", remove, Done, query=UserQuery),
    ]
