"""What stands in a setting, from text to value and back: durations, addresses, URLs, patterns, networks.

Each check takes what was written and returns it in its one normal form, or raises `ValueError` with a sentence
that says what is wrong with it and what to write. No message carries a password.
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from mirror.errors import MirrorError
from mirror.oci.names import canonical_registry

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_USERINFO = re.compile(r"(?<=//)[^/?#\s]*@")
_SOCKET_BYTES = 107  # sun_path holds 108 with its final zero byte
HIDDEN = "********"


@dataclass(frozen=True, slots=True)
class Allowed:
    """Annotates a setting with the words for what may stand there: used in messages."""

    text: str


# --- durations --------------------------------------------------------------------------------------------


def parse_duration(value: object) -> object:
    """`"90s"`, `"7d"` or a number of seconds, as seconds; anything else raises ValueError."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError(_duration_wanted(value))
        return float(match[1]) * _UNITS[match[2]]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(_duration_wanted(value))
    return value


def _duration_wanted(value: object) -> str:
    return f'{value!r} is no duration; write one such as "30s", "10m", "12h" or "7d", or a number of seconds'


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads as `seconds`."""
    if seconds == 0:
        return "0s"
    for unit in ("d", "h", "m", "s", "ms"):
        count = seconds / _UNITS[unit]
        if count.is_integer():
            return f"{int(count)}{unit}"
    return f"{seconds:f}".rstrip("0").rstrip(".") + "s"


# --- addresses --------------------------------------------------------------------------------------------


def parse_listen(entry: str) -> tuple[str, int]:
    """`HOST:PORT` as host (an IPv6 address without its brackets) and port. Raises ValueError."""
    host, separator, port_text = entry.rpartition(":")
    if not separator or not host or (":" in host and not host.startswith("[")):
        raise ValueError(_listen_wanted(entry))
    if not (port_text.isascii() and port_text.isdigit() and int(port_text) <= 65535):
        raise ValueError(f"{entry!r}: {port_text!r} is no port; write a number from 1 to 65535")
    if host.startswith("["):
        host = _ipv6(entry, host)
    elif re.fullmatch(r"[A-Za-z0-9._-]+", host) is None:
        raise ValueError(f"{entry!r}: {host!r} is neither an address nor a host name")
    return host, int(port_text)


def _ipv6(entry: str, host: str) -> str:
    try:
        return str(ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise ValueError(f"{entry!r}: {host!r} is no IPv6 address in brackets, such as [::1]") from None


def _listen_wanted(entry: str) -> str:
    port = entry.rpartition(":")[2]
    port = port if port.isascii() and port.isdigit() else "5000"
    if entry in (port, f":{port}"):
        return f'{entry!r} names no address; write "127.0.0.1:{port}" (this machine) or "0.0.0.0:{port}" (everyone)'
    if entry.count(":") > 1:
        return f'{entry!r}: an IPv6 address stands in brackets, such as "[::1]:5000"'
    return f'{entry!r} is no HOST:PORT, such as "127.0.0.1:5000"'


def format_listen(host: str, port: int) -> str:
    """The inverse of `parse_listen`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_listen(entries: tuple[str, ...]) -> tuple[str, ...]:
    if not entries:
        raise ValueError('the list is empty; write at least one HOST:PORT, such as "127.0.0.1:5000"')
    parsed = [parse_listen(entry) for entry in entries]
    for place, entry in enumerate(parsed):
        if entry in parsed[:place] and entry[1] != 0:
            raise ValueError(f"{entries[place]!r} stands there twice")
    return tuple(format_listen(host, port) for host, port in parsed)


def _check_listen_login(entries: tuple[str, ...]) -> tuple[str, ...]:
    return _check_listen(entries) if entries else ()


def check_host(host: str) -> str:
    """A registry's host, `HOST` or `HOST:PORT`, in its canonical form. Raises ValueError."""
    try:
        return canonical_registry(host)
    except (MirrorError, ValueError) as error:
        raise ValueError(f"{host!r} is no registry host, such as docker.io or registry.example.com:5000") from error


def _check_hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(check_host(host) for host in hosts)


def _check_networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(network, strict=False)) for network in networks)
    except ValueError as error:
        raise ValueError(f'{error}; write networks such as "10.0.0.0/8" or one address') from None


# --- URLs -------------------------------------------------------------------------------------------------


def mask(text: str) -> str:
    """`text` with the user and password of every URL in it hidden."""
    return _USERINFO.sub(f"{HIDDEN}@", text)


def _split(url: str, what: str) -> SplitResult:
    """A URL with scheme http or https and a host, or ValueError."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{mask(url)!r} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{mask(url)!r} is no http or https URL, such as {what}")
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError(f"{mask(url)!r} holds white space or a control character")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise ValueError(f"{mask(url)!r}: leave out everything from the question mark or # on")
    return parts


def check_url(url: str) -> str:
    """A registry's base URL without its final slash. Raises ValueError."""
    parts = _split(url, '"https://registry.example.com"')
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{mask(url)!r}: credentials do not stand in the URL; use username and password_file")
    path = parts.path.rstrip("/")
    if path == "/v2" or path.endswith("/v2"):
        raise ValueError(f"{url!r}: leave out /v2, the mirror adds it")
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def _check_urls(url: str | tuple[str, ...]) -> str | tuple[str, ...]:
    if isinstance(url, str):
        return check_url(url)
    if not url:
        raise ValueError("the list is empty; write at least one URL")
    checked = tuple(check_url(entry) for entry in url)
    for place, entry in enumerate(checked):
        if entry in checked[:place]:
            raise ValueError(f"{entry!r} stands there twice")
    return checked


def _check_proxy(url: str) -> str:
    parts = _split(url, '"http://proxy.example.com:3128"')
    if parts.path not in ("", "/"):
        raise ValueError(f"{mask(url)!r}: a proxy is HOST:PORT, without a path")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine: a loopback address or `localhost`."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# --- the rest ---------------------------------------------------------------------------------------------


def _check_patterns(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    return patterns


def _check_path(path: Path) -> Path:
    if str(path) in ("", ".") or "\0" in str(path):
        raise ValueError("the path is empty or holds a zero byte")
    return path


def _check_socket(path: Path) -> Path:
    length = len(bytes(_check_path(path)))
    if length > _SOCKET_BYTES:
        raise ValueError(f"the path is {length} bytes long; a socket's path ends at {_SOCKET_BYTES}")
    return path


def _check_words(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("the text is empty or holds a control character")
    return text


Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(ge=0, allow_inf_nan=False),
    Allowed('a duration such as "30s" or "7d", or a number of seconds, not below 0'),
]
Timeout = Annotated[
    float,
    BeforeValidator(parse_duration),
    Field(gt=0, allow_inf_nan=False),
    Allowed('a duration above 0, such as "10s"'),
]
Listen = Annotated[
    tuple[str, ...], AfterValidator(_check_listen), Allowed('a list of HOST:PORT, such as ["127.0.0.1:5000"]')
]
ListenLogin = Annotated[
    tuple[str, ...], AfterValidator(_check_listen_login), Allowed('a list of HOST:PORT, such as ["0.0.0.0:5001"]')
]
Switch = Annotated[bool, Field(strict=True), Allowed("true or false")]
Text = Annotated[str, AfterValidator(_check_words), Allowed("a text in quotes")]
Host = Annotated[str, AfterValidator(check_host), Allowed('a registry host, such as "docker.io"')]
Hosts = Annotated[
    tuple[str, ...], AfterValidator(_check_hosts), Allowed('a list of hosts, such as ["auth.example.com"]')
]
Networks = Annotated[
    tuple[str, ...], AfterValidator(_check_networks), Allowed('a list of networks, such as ["10.0.0.0/8"]')
]
Urls = Annotated[
    str | tuple[str, ...],
    AfterValidator(_check_urls),
    Allowed('a URL such as "https://registry.example.com", or a list of them'),
]
Proxy = Annotated[str, AfterValidator(_check_proxy), Allowed('a URL such as "http://proxy.example.com:3128"')]
Patterns = Annotated[
    tuple[str, ...], AfterValidator(_check_patterns), Allowed(r"a list of regular expressions, such as ['^v?\d+$']")
]
File = Annotated[Path, AfterValidator(_check_path), Allowed("a path in quotes")]
Socket = Annotated[Path, AfterValidator(_check_socket), Allowed("a path in quotes")]
