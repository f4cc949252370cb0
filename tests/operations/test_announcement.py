"""What `serve` says when it starts: addresses that can be reached, and what to paste where."""

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest

from mirror.operations import announcement as module
from mirror.operations.announcement import (
    Doors,
    daemon_json,
    is_loopback,
    lines,
    own_addresses,
    reachable,
    upstream_lines,
)


def row(name: str, state: str = "ok", **more: Any) -> dict[str, Any]:
    return {
        "name": name, "state": state, "reason": None, "serving": "everything, fresh", "pulls_left": None,
        "pulls_limit": None, "credentials": False, **more,
    }  # fmt: skip


def report(*rows: dict[str, Any], offline: bool = False) -> dict[str, Any]:
    data = {
        "path": "/var/lib/mirror", "blobs": 12, "bytes": 41_200_000, "free_bytes": 5_000_000_000,
        "reserve_bytes": 1_000_000_000,
    }  # fmt: skip
    return {"version": "1.2.3", "data": data, "registries": list(rows), "offline": offline}


@pytest.mark.parametrize(("addresses", "expected"), [
    ([("127.0.0.1", 5000)], ["127.0.0.1:5000"]),
    ([("::1", 5000), ("192.0.2.7", 80)], ["192.0.2.7:80", "[::1]:5000"]),
    ([("127.0.0.1", 5000), ("2001:db8::7", 5000)], ["[2001:db8::7]:5000", "127.0.0.1:5000"]),
    ([("0.0.0.0", 5000)], ["192.0.2.7:5000", "127.0.0.1:5000"]),
    ([("::", 5000)], ["[2001:db8::7]:5000", "[::1]:5000"]),  # for IPv6 only: see `_bind`
    ([("0.0.0.0", 5000), ("192.0.2.7", 5000)], ["192.0.2.7:5000", "127.0.0.1:5000"]),
    ([], []),
])  # fmt: skip
def test_addresses_as_others_can_use_them_loopback_last(
    addresses: list[tuple[str, int]], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"0.0.0.0": ["127.0.0.1", "192.0.2.7"], "::": ["::1", "2001:db8::7"]}
    monkeypatch.setattr(module, "own_addresses", lambda every: own[every])
    assert reachable(addresses) == expected


def test_the_addresses_of_this_machine() -> None:
    assert "127.0.0.1" in own_addresses("0.0.0.0")
    for every, version in (("0.0.0.0", 4), ("::", 6)):
        assert {ipaddress.ip_address(each).version for each in own_addresses(every)} <= {version}


def test_ipv6_addresses_but_those_of_one_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "if_inet6"
    monkeypatch.setattr(module, "_IF_INET6", table)
    assert own_addresses("::") == ["::1"]
    table.write_text(
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "20010db8000000000000000000000007 02 40 00 80     eth0\n"
        "fe800000000000000042acfffe110002 02 40 20 80     eth0\n"
    )
    assert own_addresses("::") == ["::1", "2001:db8::7"]


@pytest.mark.parametrize(("address", "expected"), [
    ("127.0.0.1:5000", True), ("127.0.0.2:5000", True), ("[::1]:5000", True), ("localhost:5000", True),
    ("192.0.2.7:5000", False), ("[2001:db8::1]:5000", False),
])  # fmt: skip
def test_loopback(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


@pytest.mark.parametrize(("address", "expected"), [
    ("127.0.0.1:5000", {"registry-mirrors": ["http://127.0.0.1:5000"]}),
    ("192.0.2.7:5000", {"registry-mirrors": ["http://192.0.2.7:5000"], "insecure-registries": ["192.0.2.7:5000"]}),
])  # fmt: skip
def test_daemon_json(address: str, expected: dict[str, list[str]]) -> None:
    assert json.loads(daemon_json(address)) == expected


def test_the_lines() -> None:
    rows = [row("docker.io"), *(row(f"r{number}.io") for number in range(7)), row("off.io", "disabled")]
    assert lines(report(*rows), [("127.0.0.1", 5000)], "/run/mirror/mirror.sock", "docker.io") == [
        "mirror 1.2.3",
        "  listening   http://127.0.0.1:5000",
        "  socket      /run/mirror/mirror.sock",
        "  data        /var/lib/mirror: 12 blobs, 41.2MB; 5GB free",
        "  registries  docker.io (default), r0.io, r1.io, r2.io, r3.io, r4.io and 2 more",
        "  docker      write this into /etc/docker/daemon.json, then: systemctl reload docker",
        '              {"registry-mirrors": ["http://127.0.0.1:5000"]}',
    ]


def test_one_registry_is_listed_without_a_comma() -> None:
    found = lines(report(row("docker.io")), [("127.0.0.1", 5000)], "s", "docker.io")
    assert "  registries  docker.io (default)" in found


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("::1", False), ("192.0.2.7", True)])
def test_an_address_that_others_reach_is_warned_of(host: str, warned: bool) -> None:
    found = lines(report(row("docker.io")), [(host, 5000)], "s", "docker.io")
    assert any(line.startswith("  warning     open to the network") for line in found) is warned


def test_offline_is_said() -> None:
    found = lines(report(row("docker.io"), offline=True), [("127.0.0.1", 5000)], "s", "docker.io")
    assert "  offline     nothing is asked upstream; what is held is served" in found


DOWN = {"reason": "docker.io: connection refused", "serving": "what is held"}


@pytest.mark.parametrize(("rows", "expected"), [
    ([row("docker.io")], ["docker.io ok"]),
    ([row("docker.io", pulls_left=76, pulls_limit=100)], ["docker.io ok, 76 of 100 pulls left"]),
    ([row("docker.io", pulls_left=76)], ["docker.io ok, 76 pulls left"]),
    ([row("docker.io", "down", **DOWN)], ["docker.io down: connection refused; served meanwhile: what is held"]),
    ([row("docker.io", "unknown")], ["docker.io unknown: not asked yet; served meanwhile: everything, fresh"]),
    ([row("docker.io"), row("a.io"), row("off.io", "disabled")],
     ["docker.io ok", "2 of 2 registries answer; mirror status says why"]),
    ([row("docker.io"), row("a.io", "down"), row("b.io", credentials=True)],
     ["docker.io ok", "b.io ok", "2 of 3 registries answer; no answer from a.io; mirror status says why"]),
    ([row("docker.io"), *(row(f"r{number}.io", "down") for number in range(7))],
     ["docker.io ok", "1 of 8 registries answer; no answer from r0.io, r1.io, r2.io, r3.io, r4.io and 2 more;"
      " mirror status says why"]),
])  # fmt: skip
def test_how_the_upstreams_answered(rows: list[dict[str, Any]], expected: list[str]) -> None:
    assert upstream_lines(report(*rows), "docker.io") == expected


# --- ways in ----------------------------------------------------------------------------------------------


def announced(doors: Doors, *addresses: tuple[str, int]) -> list[str]:
    said = lines(report(row("docker.io")), addresses or [("192.0.2.7", 5000)], "/run/s", "docker.io", doors)
    return [" ".join(line.split()) for line in said]


def test_where_one_logs_in() -> None:
    said = announced(Doors(login=[("192.0.2.7", 5001)], users=0))
    assert "login docker login 192.0.2.7:5001" in said
    assert "users none yet: mirror user add NAME" in said
    assert "warning passwords go over the network unencrypted: set tls_cert and tls_key" in said
    assert "users 3" in announced(Doors(users=3))
    assert not [line for line in announced(Doors()) if line.startswith(("login", "users"))]


def test_passwords_that_stay_here_or_are_encrypted_are_no_reason_to_warn() -> None:
    for doors in (Doors(login=[("127.0.0.1", 5001)]), Doors(login=[("192.0.2.7", 5001)], https=True)):
        assert not [line for line in announced(doors) if "unencrypted" in line]


def test_https_stands_in_what_is_pasted() -> None:
    said = announced(Doors(https=True))
    assert "listening https://192.0.2.7:5000" in said
    assert '{"registry-mirrors": ["https://192.0.2.7:5000"]}' in said


def test_a_mirror_that_asks_for_users_says_who_cannot_cope() -> None:
    """Breaks if a daemon is pointed at a mirror that will answer it 401 for ever."""
    said = announced(Doors(users=1, anonymous="none"))
    assert not [line for line in said if "daemon.json" in line or '{"registry-mirrors"' in line]
    assert any('"registry-mirrors"' in line and "send no user; only those on this machine" in line for line in said)
    assert any("hosts.toml" in line for line in said)
    assert any("podman login" in line for line in said)
    assert not [line for line in announced(Doors(anonymous="none", loopback="none")) if "only those on this" in line]


def test_a_disk_without_room_is_said() -> None:
    """Breaks if a mirror that can keep nothing looks like any other."""
    full = report(row("docker.io"))
    assert not [line for line in lines(full, [("127.0.0.1", 5000)], "/s", "docker.io") if "less than min_free" in line]
    full["data"]["reserve_bytes"] = 6_000_000_000
    (said,) = [line for line in lines(full, [("127.0.0.1", 5000)], "/s", "docker.io") if "less than min_free" in line]
    assert "warning" in said
    assert "6.0 GB" in said or "6GB" in said
