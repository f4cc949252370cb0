"""Where this mirror may be sent by others: the rules against server-side request forgery (faults.md).

What the operator configured may be anything. Where an upstream's redirect, realm or `Link` leads is followed

- never to an address this mirror listens on: it would come in as loopback and read everything;
- never from a registry at a public address to one that is not, unless the operator lists the network
  (`addresses`).

The check is made on the address that is about to be connected to, in the factory of its socket: a name that
resolves to something else the second time (DNS rebinding) and a literal are one case. Behind a proxy there is no
address to see, and only the name is checked.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from enum import Enum
from functools import lru_cache
from typing import Any

from mirror.upstream.translate import AddressRefused

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
AddrInfo = tuple[Any, Any, Any, str, tuple[Any, ...]]
Listening = Callable[[], set[tuple[str, int]]]
"""The addresses this mirror listens on, as (ip, port); a wildcard stands for all of this machine's."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_LOW_32 = 0xFFFFFFFF
_LONGEST_ADDRESS = 100  # characters, its brackets and zone included: nothing longer is remembered

refusals: ContextVar[list[AddressRefused] | None] = ContextVar("refusals", default=None)
"""Where the factory leaves its refusals for the request that runs into them: of several attempts at once, the
connector tells but a mixture of texts."""


class Reach(Enum):
    """How far a request may go."""

    CONFIGURED = "configured"  # to where the operator said, whatever that is
    INNER = "inner"  # led there by a registry at a private address: anywhere but to ourselves
    OUTER = "outer"  # led there by a registry at a public address: to public addresses only


class Guard:
    """The rules for one registry. `networks` are its `addresses`; raises ValueError where one is no network."""

    def __init__(self, *, listening: Listening, networks: Iterable[str] = ()) -> None:
        self._listening = listening
        self._networks = tuple(ipaddress.ip_network(network, strict=False) for network in networks)

    def socket_factory(self, reach: Reach) -> Callable[[AddrInfo], socket.socket]:
        """For `aiohttp.TCPConnector`: makes a socket for an address that may be connected to, else raises."""

        def make(info: AddrInfo) -> socket.socket:
            family, kind, protocol, _, address = info
            refusal = self.refusal(str(address[0]), int(address[1]), reach)
            if refusal is not None:
                error = AddressRefused(refusal)
                noted = refusals.get()
                if noted is not None:
                    noted.append(error)
                raise error
            return socket.socket(family=family, type=kind, proto=protocol)

        return make

    def refusal(self, host: str, port: int, reach: Reach) -> str | None:
        """Why this address may not be connected to, as a sentence; None where it may."""
        if reach is Reach.CONFIGURED:
            return None
        address = parse_address(host)
        if address is None:
            return "it led to an address that cannot be read"
        if self._is_ours(address, port):
            return "it led back to an address that this mirror listens on"
        if reach is Reach.OUTER and not is_public(address) and not self._listed(address):
            return (
                "it led from a public address to one that is not; "
                "if that is meant, list the network under `addresses` of the registry"
            )
        return None

    def name_refusal(self, host: str, port: int, reach: Reach) -> str | None:
        """The same by name alone, for requests through a proxy, which resolves it."""
        if parse_address(host) is not None:
            return self.refusal(host, port, reach)
        return self.refusal("127.0.0.1", port, reach) if is_local_name(host) else None

    def _listed(self, address: IPAddress) -> bool:
        return any(address in network for network in self._networks)

    def _is_ours(self, address: IPAddress, port: int) -> bool:
        if address.is_unspecified:  # connecting there reaches this machine's loopback
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
        local: bool | None = None
        for host, listened in self._listening():
            if listened != port:
                continue
            ours = parse_address(host)
            if ours == address:
                return True
            if ours is None or ours.is_unspecified:
                local = is_local_address(address) if local is None else local
                if local:
                    return True
        return False


def parse_address(host: str) -> IPAddress | None:
    """An IP address without brackets or zone; one of IPv4 inside IPv6 as what it reaches. None for a name."""
    return _parsed(host) if len(host) <= _LONGEST_ADDRESS else None


@lru_cache(4096)
def _parsed(host: str) -> IPAddress | None:
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & _LOW_32)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def is_public(address: IPAddress) -> bool:
    """Whether it is on the internet: not loopback, link-local, private, shared, unique-local, multicast, …"""
    return address.is_global and not address.is_multicast


def is_local_name(host: str) -> bool:
    """Whether a name means this machine by convention (RFC 6761, 6.3)."""
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def is_loopback_host(host: str) -> bool:
    """Whether a name or literal is loopback."""
    address = parse_address(host)
    return is_local_name(host) if address is None else address.is_loopback


def is_local_address(address: IPAddress) -> bool:
    """Whether connecting there reaches this machine. Asks the routing table; nothing is sent."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))
        except OSError:
            return False
        return parse_address(str(probe.getsockname()[0])) == address
