"""What `serve` says when it starts: where it is, and what to paste where."""

import fcntl
import ipaddress
import json
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirror.logs import human

_SIOCGIFADDR = 0x8915  # netdevice(7)
_IF_INET6 = Path("/proc/net/if_inet6")
_SCOPE_LINK = "20"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Doors:
    """How one comes in: the addresses to log in at, whether all speak https, how many users there are (None: there can
    be none), what strangers may do, and what this machine may."""

    login: Sequence[tuple[str, int]] = ()
    https: bool = False
    users: int | None = None
    anonymous: str = "pull"
    loopback: str = "push"

    @property
    def scheme(self) -> str:
        return "https" if self.https else "http"


def reachable(addresses: Sequence[tuple[str, int]]) -> list[str]:
    """`HOST:PORT` as other machines can use it, loopback last; an address of all zeros is every one of this machine."""
    found: list[str] = []
    for host, port in addresses:
        hosts = own_addresses(host) if host in ("0.0.0.0", "::") else [host]  # noqa: S104 - compared, not bound
        found.extend(f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in hosts)
    return sorted(dict.fromkeys(found), key=is_loopback)


def own_addresses(every: str) -> list[str]:
    """The addresses of this machine's interfaces that `0.0.0.0` stands for, or `::`. Blocks for a few system calls."""
    if every == "::":
        return _own_ipv6()
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:
                continue  # an interface without an address
            found.append(socket.inet_ntoa(answer[20:24]))
    return found


def _own_ipv6() -> list[str]:
    try:
        rows = [line.split() for line in _IF_INET6.read_text().splitlines()]
    except OSError:
        return ["::1"]
    # address, index, prefix length, scope, flags, name; an address of scope link needs its interface said, too
    return [str(ipaddress.IPv6Address(bytes.fromhex(row[0]))) for row in rows if row[3] != _SCOPE_LINK]


def is_loopback(address: str) -> bool:
    """Whether a `HOST:PORT` names this machine only."""
    return address.startswith(("127.", "[::1]", "localhost"))


def daemon_json(address: str, scheme: str = "http") -> str:
    """What a Docker daemon needs to know of a mirror at `HOST:PORT`. It trusts plain http only at 127.0.0.0/8."""
    settings: dict[str, list[str]] = {"registry-mirrors": [f"{scheme}://{address}"]}
    if scheme == "http" and not address.startswith("127."):
        settings["insecure-registries"] = [address]
    return json.dumps(settings)


def lines(
    report: Mapping[str, Any],
    addresses: Sequence[tuple[str, int]],
    socket_path: str,
    default: str,
    doors: Doors | None = None,
) -> list[str]:
    """The lines, aligned. `report` is that of `status`, `addresses` are those of `listen`."""
    doors = doors or Doors()
    usable = reachable(addresses)
    data = report["data"]
    names = [row["name"] for row in report["registries"] if row["state"] != "disabled"]
    others = [name for name in names if name != default]
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    rows = [
        ("listening", ", ".join(f"{doors.scheme}://{address}" for address in usable)),
        *_login_rows(doors),
        ("socket", socket_path),
        ("data", f"{data['path']}: {data['blobs']} blobs, {human(data['bytes'])}; {human(data['free_bytes'])} free"),
        ("registries", ", ".join([f"{default} (default)", *others[:_SHOWN]]) + more),
    ]
    if data["free_bytes"] < data["reserve_bytes"]:
        rows.append(("warning", _FULL.format(human(data["reserve_bytes"]))))
    if report["offline"]:
        rows.append(("offline", "nothing is asked upstream; what is held is served"))
    if doors.anonymous == "none":
        rows += [("warning", text) for text in _closed(doors)]
    else:
        rows.append(("docker", "write this into /etc/docker/daemon.json, then: systemctl reload docker"))
        rows.append(("", daemon_json(usable[0], doors.scheme) if usable else ""))
        if any(not is_loopback(address) for address in usable):
            rows.append(("warning", _OPEN))
    return [f"mirror {report['version']}", *(f"  {name:<11} {text}".rstrip() for name, text in rows)]


_FULL = (
    "less than min_free ({}) is free: what was used longest ago goes where that helps, and pulls are passed on unkept"
)
_OPEN = "open to the network: whoever reaches this address can pull public images through it"


def _login_rows(doors: Doors) -> Iterator[tuple[str, str]]:
    """Where one logs in, and what is missing for it."""
    login = reachable(doors.login)
    if login:
        yield "login", ", ".join(f"docker login {address}" for address in login)
        if not doors.https and any(not is_loopback(address) for address in login):
            yield "warning", "passwords go over the network unencrypted: set tls_cert and tls_key"
    if doors.users is not None:
        yield "users", str(doors.users) if doors.users else "none yet: mirror user add NAME"


def _closed(doors: Doors) -> Iterator[str]:
    """Who cannot use a mirror that asks everybody for a user, and how the others tell it theirs."""
    yield 'anonymous = "none": every address asks for a user'
    here = "" if doors.loopback == "none" else "; only those on this machine can use it"
    yield f"a Docker daemon's \"registry-mirrors\" and BuildKit's mirrors send no user{here}"
    yield 'containerd, k3s and newer Docker: Authorization below [host."…".header] in hosts.toml'
    yield "podman, skopeo, buildah: podman login, at the mirror's address"


def upstream_lines(report: Mapping[str, Any], default: str) -> list[str]:
    """How the upstreams answered the first question: the default registry by name, the others together."""
    rows = [row for row in report["registries"] if row["state"] != "disabled"]
    found = [_upstream_line(row) for row in rows if row["name"] == default or row["credentials"]]
    down = [row["name"] for row in rows if row["state"] == "down" and row["name"] != default]
    answering = sum(row["state"] == "ok" for row in rows)
    others = f"{answering} of {len(rows)} registries answer"
    if down:
        more = f" and {len(down) - _SHOWN} more" if len(down) > _SHOWN else ""
        others += f"; no answer from {', '.join(down[:_SHOWN])}{more}"
    return [*found, f"{others}; mirror status says why"] if len(rows) > len(found) else found


def _upstream_line(row: Mapping[str, Any]) -> str:
    if row["state"] != "ok":
        reason = str(row["reason"] or "not asked yet").removeprefix(f"{row['name']}: ")
        return f"{row['name']} {row['state']}: {reason}; served meanwhile: {row['serving']}"
    if row["pulls_left"] is None:
        return f"{row['name']} ok"
    limit = f" of {row['pulls_limit']}" if row["pulls_limit"] is not None else ""
    return f"{row['name']} ok, {row['pulls_left']}{limit} pulls left"
