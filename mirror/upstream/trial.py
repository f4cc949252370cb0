"""Trying a login at a registry before it is believed, as `docker login` does (moby `registry/auth.go`).

`GET /v2/`: what it challenges for is answered with the user and the password, or with a token that its token service
gives for them, and then the same request has to succeed. A registry that asks nobody there is shown them all the same:
only what it then refuses is known to be wrong.
"""

from dataclasses import dataclass

from mirror.clock import Clock
from mirror.errors import UpstreamCredentialsRefused, UpstreamInvalid
from mirror.upstream.bodies import drain
from mirror.upstream.credentials import Credential
from mirror.upstream.endpoints import Endpoint
from mirror.upstream.exchange import Answer, Exchange
from mirror.upstream.guard import Reach
from mirror.upstream.realms import RealmPolicy
from mirror.upstream.transport import Transport


@dataclass(frozen=True, slots=True)
class Trial:
    """One login at one registry."""

    registry: str
    credential: Credential
    transport: Transport
    policy: RealmPolicy
    clock: Clock

    async def run(self, endpoint: Endpoint, exchange: Exchange) -> None:
        """Returns where the registry at `endpoint` accepts it. `exchange` shows this login, see `OneLogin`.

        Raises `UpstreamCredentialsRefused` where it does not, else an `UpstreamNoAnswer` or `Offline`.
        """
        answer = await exchange.ask(endpoint, "GET", endpoint.ping, {})
        if answer.status == 200:
            await drain(answer.response)
            if answer.sent is None or answer.sent.credential is None:
                await self._show_unasked(endpoint)
            return
        if answer.status in (401, 403):
            await drain(answer.response)
            raise self._refused()
        await self._judge(exchange, answer)

    async def _show_unasked(self, endpoint: Endpoint) -> None:
        self.policy.check_transport(endpoint.ping)
        response = await self.transport.send(
            "GET", endpoint.ping, headers={"Authorization": self.credential.basic}, reach=Reach.CONFIGURED
        )
        await drain(response)
        if response.status in (401, 403):
            raise self._refused()
        if response.status != 200:
            raise self._odd(response.status)

    async def _judge(self, exchange: Exchange, answer: Answer) -> None:
        if answer.status == 429 or answer.status >= 500:
            await exchange.judge(answer)
        await drain(answer.response)
        raise self._odd(answer.status)

    def _refused(self) -> UpstreamCredentialsRefused:
        return UpstreamCredentialsRefused(f"{self.registry}: the login was refused", registry=self.registry)

    def _odd(self, status: int) -> UpstreamInvalid:
        return UpstreamInvalid(
            f"{self.registry} answered {status} to GET /v2/, which no registry does", registry=self.registry
        )


class OneLogin:
    """`Credentials` that are one login, wherever the registry is."""

    configured = True

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    async def get(self, host: str) -> Credential | None:
        return self._credential

    async def renew(self, host: str, refused: Credential) -> Credential | None:
        return None
