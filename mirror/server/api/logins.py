"""`POST /api/v1/login` and `/logout`: the mirror's own accounts at registries."""

from dataclasses import dataclass, field

from mirror.operations.logins import LoggedIn, LoggedOut, Logins
from mirror.server.api.endpoint import Asked, Endpoint


@dataclass(frozen=True, slots=True)
class LoginBody:
    registry: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LogoutBody:
    registry: str


def endpoints(logins: Logins) -> list[Endpoint]:
    """The routes of this resource."""

    async def log_in(asked: Asked) -> LoggedIn:
        body: LoginBody = asked.body
        return await logins.log_in(body.registry, body.username, body.password)

    async def log_out(asked: Asked) -> LoggedOut:
        body: LogoutBody = asked.body
        return await logins.log_out(body.registry)

    return [
        Endpoint("POST", "/login", "Log the mirror in to a registry", log_in, LoggedIn, body=LoginBody),
        Endpoint("POST", "/logout", "Forget the mirror's login at a registry", log_out, LoggedOut, body=LogoutBody),
    ]
