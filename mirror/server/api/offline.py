"""`/api/v1/offline`: whether registries are asked."""

from dataclasses import dataclass

from mirror.operations.offline import Switch
from mirror.server.api.endpoint import Asked, Endpoint


@dataclass(frozen=True, slots=True)
class Offline:
    """`offline`: no registry is asked. It lasts until the mirror ends."""

    offline: bool


def endpoints(switch: Switch) -> list[Endpoint]:
    """The routes of this resource."""

    async def read(asked: Asked) -> Offline:
        del asked
        return Offline(switch.offline)

    async def turn(asked: Asked) -> Offline:
        body: Offline = asked.body
        return Offline(switch.turn(offline=body.offline))

    return [
        Endpoint("GET", "/offline", "Whether registries are asked", read, Offline),
        Endpoint("PUT", "/offline", "Stop asking registries, or ask them again", turn, Offline, body=Offline),
    ]
