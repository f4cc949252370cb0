"""Who is loopback: this machine, by a name of its own, and neither through a proxy nor from a page in a browser."""

from collections.abc import Mapping

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from mirror.cache.names import Names
from mirror.cache.rights import Role
from mirror.server import authentication
from mirror.server.authentication import FOREIGN, Authentication, is_loopback

NAMES = Names("docker.io", ["docker.io", "ghcr.io", "registry.corp:8443"])


def role(host: str | None, more: Mapping[str, str] | None = None, *, local: bool = True) -> Role:
    headers = {**({} if host is None else {"Host": host}), **(more or {})}
    return Authentication(NAMES.is_registry).role(CIMultiDictProxy(CIMultiDict(headers)), local=local)


@pytest.mark.parametrize("host", [
    "127.0.0.1", "127.0.0.1:5000", "127.0.0.2:5000", "127.255.255.254:80", "[::1]", "[::1]:5000", "localhost",
    "localhost:5000", "LOCALHOST:5000", "docker.io", "registry-1.docker.io", "ghcr.io:443", "GHCR.IO.",
    "registry.corp:8443",
])  # fmt: skip
def test_a_host_of_this_machine_or_a_registrys_own(host: str) -> None:
    assert role(host) is Role.LOOPBACK
    assert role(host, local=False) is Role.STRANGER


@pytest.mark.parametrize("host", [
    None, "", "evil.example", "evil.example:5000", "mirror:5000", "192.168.0.7:5000", "0.0.0.0:5000", "[::]:5000",
    "10.0.0.1", "localhost.evil.example", "127.0.0.1.evil.example", "127.evil.example", "evil.example:127", "quay.io",
    "registry.corp", "127.0.0.1:5000:5000", "127.0.0.1@evil.example", "evil.example#127.0.0.1", "128.0.0.1",
    "2130706433", "0177.0.0.1", "127.1", "::1", "[::1", "localhost:", "[fe80::1]:5000", "[::ffff:10.0.0.1]",
])  # fmt: skip
def test_any_other_host_is_somebody_elses(host: str | None) -> None:
    """A page whose name was made to resolve to 127.0.0.1 (DNS rebinding) says its own name."""
    assert role(host) is Role.STRANGER


@pytest.mark.parametrize("name", [*FOREIGN, "X-Forwarded-Prefix", "x-forwarded-ssl", "X-FORWARDED-USER"])
@pytest.mark.parametrize("value", ["127.0.0.1", "", "null"])
def test_signs_of_a_proxy_or_a_browser(name: str, value: str) -> None:
    assert role("127.0.0.1:5000", {name: value}) is Role.STRANGER
    assert role("127.0.0.1:5000", {name.lower(): value}) is Role.STRANGER
    assert role("docker.io", {name.upper(): value}) is Role.STRANGER


def test_the_signs_are_those_of_the_design() -> None:
    expected = {"Forwarded", "X-Real-IP", "Via", "Origin", "Sec-Fetch-Site"}
    assert {str(name) for name in FOREIGN if not name.startswith("X-Forwarded-")} == expected
    assert {"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} < {str(name) for name in FOREIGN}


def test_other_headers_change_nothing() -> None:
    assert role("127.0.0.1", {"User-Agent": "docker/29", "Accept": "*/*", "Authorization": "Basic x"}) is Role.LOOPBACK


@pytest.mark.parametrize(("address", "loopback"), [
    (("127.0.0.1", 5000), True),
    (("127.8.8.8", 1), True),
    (("::1", 1, 0, 0), True),
    (("::ffff:127.0.0.1", 1, 0, 0), True),
    (("::ffff:10.0.0.1", 1, 0, 0), False),
    (("10.0.0.1", 5000), False),
    (("0.0.0.0", 5000), False),
    (("fe80::1%eth0", 1, 0, 2), False),
    ("", False),
    (b"\x00abstract", False),
    (None, False),
])  # fmt: skip
def test_addresses(address: object, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication, "_REMEMBERED", 3)
    asked = Authentication(NAMES.is_registry)
    for number in range(10):
        headers = CIMultiDictProxy(CIMultiDict({"Host": f"h{number}.example"}))
        assert asked.role(headers, local=True) is Role.STRANGER
        assert len(asked._hosts) <= 3
    assert asked.role(CIMultiDictProxy(CIMultiDict({"Host": "127.0.0.1"})), local=True) is Role.LOOPBACK
