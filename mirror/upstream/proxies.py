"""Which proxy a URL is reached through: the registry's `proxy`, else `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`
except for what `NO_PROXY` names.

A proxy's URL may carry a password: it is taken off at once, and shown nowhere.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import encode_basic_auth
from yarl import URL

from mirror.errors import ConfigInvalid
from mirror.upstream.guard import parse_address

_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where a proxy is, and how it wants to be asked."""

    url: URL
    authorization: str | None = field(default=None, repr=False)  # the value of `Proxy-Authorization`

    @classmethod
    def parse(cls, text: str) -> "Proxy":
        """Read `[http://][user:password@]host[:port]`. Raises `ConfigInvalid`, without repeating the text."""
        try:
            url = URL(text if "://" in text else f"http://{text}")
            valid = bool(url.host) and url.scheme in _SCHEMES and url.port is not None
        except ValueError:
            url, valid = URL(), False
        if not valid or ":" in (url.user or ""):
            raise ConfigInvalid("proxy: not a URL of the form http://[user:password@]host:port")
        authorization = encode_basic_auth(url.user or "", url.password or "") if url.user or url.password else None
        return cls(url.with_user(None).with_path("/"), authorization)


class Proxies:
    """The choice for one registry."""

    def __init__(self, configured: str | None, environment: Mapping[str, str]) -> None:
        self._configured = Proxy.parse(configured) if configured else None
        self._by_scheme = {} if self._configured else _from_environment(environment)
        self._exempt = _Exempt(_variable(environment, "no_proxy") or "")

    def choose(self, url: URL) -> Proxy | None:
        """The proxy for `url`, None where it is reached directly. What the operator configured knows no exception."""
        if self._configured is not None:
            return self._configured
        proxy = self._by_scheme.get(url.scheme)
        return None if proxy is None or self._exempt.covers(url.host or "", url.port) else proxy


class _Exempt:
    """`NO_PROXY`: `*`, host names (and all below them), addresses and networks, each perhaps with a port."""

    def __init__(self, text: str) -> None:
        self._entries = [entry.strip().lower() for entry in text.split(",") if entry.strip()]

    def covers(self, host: str, port: int | None) -> bool:
        name = host.rstrip(".").lower()
        return any(entry == "*" or _matches(entry, name, port) for entry in self._entries)


def _matches(entry: str, name: str, port: int | None) -> bool:
    address = parse_address(name)
    if address is not None:
        try:
            if address in ipaddress.ip_network(entry.strip("[]"), strict=False):
                return True
        except ValueError:
            pass
    host, colon, digits = entry.rpartition(":")
    if colon and digits.isdigit() and parse_address(entry) is None:
        if int(digits) != port:
            return False
        entry = host
    if address is not None:
        return parse_address(entry) == address
    suffix = entry.removeprefix("*").lstrip(".")
    return bool(suffix) and (name == suffix or name.endswith(f".{suffix}"))


def _from_environment(environment: Mapping[str, str]) -> dict[str, Proxy]:
    # HTTP_PROXY in capitals is what a CGI request's header "Proxy:" would set (httpoxy, CVE-2016-5385); no CGI here.
    found = {scheme: _variable(environment, f"{scheme}_proxy", "all_proxy") for scheme in _SCHEMES}
    return {scheme: Proxy.parse(text) for scheme, text in found.items() if text}


def _variable(environment: Mapping[str, str], *names: str) -> str | None:
    """The first that is set and not empty; lower case before upper case, as curl and Go have it."""
    candidates = (environment.get(spelling) for name in names for spelling in (name, name.upper()))
    return next((value for value in candidates if value), None)
