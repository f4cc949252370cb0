"""Where others may lead us. Each refusal is of an address about to be connected to."""

import ipaddress
import socket
from typing import Any

import pytest

from mirror.upstream.guard import (
    Guard,
    Reach,
    is_local_address,
    is_local_name,
    is_loopback_host,
    is_public,
    parse_address,
    refusals,
)
from mirror.upstream.translate import AddressRefused

NOT_PUBLIC = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0",
    "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    "2001:db8::1", "192.0.2.1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


def guard(*listening: tuple[str, int], networks: tuple[str, ...] = ()) -> Guard:
    return Guard(listening=lambda: set(listening), networks=networks)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_from_outside_nothing_inside_is_reached(address: str) -> None:
    """Fails if one of the notations of an address that is not public gets through."""
    parsed = parse_address(address)
    assert parsed is not None
    assert not is_public(parsed)
    assert guard().refusal(address, 443, Reach.OUTER) is not None
    assert guard().refusal(address, 443, Reach.INNER) is None
    assert guard().refusal(address, 443, Reach.CONFIGURED) is None


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_is_reached(address: str) -> None:
    for reach in Reach:
        assert guard().refusal(address, 443, reach) is None


def test_listed_networks_are_reached_from_outside() -> None:
    listed = guard(networks=("10.1.0.0/16", "fd00::/8"))
    assert listed.refusal("10.1.2.3", 443, Reach.OUTER) is None
    assert listed.refusal("fd00::7", 443, Reach.OUTER) is None
    assert listed.refusal("10.2.0.1", 443, Reach.OUTER) is not None


def test_a_network_that_is_none() -> None:
    with pytest.raises(ValueError, match="10"):
        guard(networks=("10.0.0.0/33",))


@pytest.mark.parametrize("reach", [Reach.INNER, Reach.OUTER])
def test_our_own_addresses_are_never_reached(reach: Reach) -> None:
    """Not from inside either, nor where the network is listed. Fails if a redirect may come in as loopback."""
    ours = guard(("127.0.0.1", 5000), ("192.0.2.7", 5001), networks=("0.0.0.0/0",))
    assert ours.refusal("127.0.0.1", 5000, reach) is not None
    assert ours.refusal("::ffff:127.0.0.1", 5000, reach) is not None
    assert ours.refusal("192.0.2.7", 5001, reach) is not None
    assert ours.refusal("127.0.0.1", 5001, reach) is None


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
def test_a_wildcard_covers_every_address_of_this_machine(wildcard: str) -> None:
    ours = guard((wildcard, 5000))
    own = own_address()
    for address in ("127.0.0.1", "127.3.2.1", "0.0.0.0", "::1", *([own] if own else [])):
        assert ours.refusal(address, 5000, Reach.INNER) is not None
        assert ours.refusal(address, 5001, Reach.INNER) is None
    assert ours.refusal("192.0.2.7", 5000, Reach.INNER) is None


def own_address() -> str | None:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


def test_which_addresses_are_this_machines() -> None:
    assert is_local_address(ipaddress.ip_address("127.0.0.9"))
    assert not is_local_address(ipaddress.ip_address("192.0.2.1"))


def test_names_behind_a_proxy() -> None:
    """There the proxy resolves: literals and the names of loopback are all that can be seen."""
    assert guard().name_refusal("localhost", 80, Reach.OUTER) is not None
    assert guard().name_refusal("x.localhost.", 80, Reach.OUTER) is not None
    assert guard().name_refusal("10.0.0.1", 80, Reach.OUTER) is not None
    assert guard().name_refusal("[::1]", 80, Reach.OUTER) is not None
    assert guard().name_refusal("registry.test", 80, Reach.OUTER) is None
    assert guard(("127.0.0.1", 5000)).name_refusal("localhost", 5000, Reach.INNER) is not None


def test_no_socket_is_made_for_a_refused_address() -> None:
    factory = guard().socket_factory(Reach.OUTER)
    noted: list[AddressRefused] = []
    token = refusals.set(noted)
    try:
        with pytest.raises(AddressRefused):
            factory(info("127.0.0.1"))
    finally:
        refusals.reset(token)
    assert len(noted) == 1
    factory(info("1.1.1.1")).close()


def info(address: str) -> Any:
    return (socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 443))


def test_what_is_no_address() -> None:
    assert parse_address("registry.test") is None
    assert parse_address("127.1") is None
    assert guard().refusal("127.1", 80, Reach.INNER) is not None  # nothing is connected to that cannot be read


def test_loopback_by_name() -> None:
    assert is_loopback_host("localhost")
    assert is_loopback_host("[::1]")
    assert is_loopback_host("127.0.0.2")
    assert not is_loopback_host("localhost.evil.test")
    assert not is_loopback_host("10.0.0.1")
    assert not is_local_name("notlocalhost")


def test_all_zeros_lead_to_ourselves() -> None:
    """Fails if 0.0.0.0 is taken for another address than the loopback one that it reaches."""
    assert guard(("127.0.0.1", 5000)).refusal("0.0.0.0", 5000, Reach.INNER) is not None
    assert guard(("::1", 5000)).refusal("::", 5000, Reach.INNER) is not None
    assert guard(("127.0.0.1", 5000)).refusal("0.0.0.0", 5001, Reach.INNER) is None
