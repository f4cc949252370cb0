"""Who may see our credentials (CVE-2026-33540: a challenge's realm is the registry's to choose, and a hostile one
chooses a host of its own).

The token service must be on the registry's own host, below the same registrable domain (by the public-suffix list,
private section included: two buckets of one provider are strangers), or on a host the operator lists in `realms`.
A password goes over plain http to loopback only, or where `insecure = true`.
"""

import asyncio
from functools import lru_cache

from publicsuffixlist import PublicSuffixList
from yarl import URL

from mirror.config.model import RegistrySettings
from mirror.errors import UpstreamForbidden
from mirror.upstream.guard import is_loopback_host, parse_address
from mirror.upstream.translate import origin_of


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()  # 50 ms


async def load_suffixes() -> None:
    """Read the list off the loop, once."""
    if not _suffixes.cache_info().currsize:
        await asyncio.to_thread(_suffixes)


class RealmPolicy:
    """The rules for one registry."""

    def __init__(self, registry: str, settings: RegistrySettings) -> None:
        self._registry = registry
        self._insecure = settings.insecure
        self._realms = frozenset(host.lower().rstrip(".") for host in settings.realms)

    def is_listed(self, url: URL) -> bool:
        """Whether the operator named this host (or host:port) himself."""
        host = (url.host or "").lower().rstrip(".")
        return host in self._realms or f"{host}:{url.port}" in self._realms

    def check_realm(self, asked: URL, realm: URL) -> None:
        """May a token service at `realm` see the credentials meant for `asked`? Raises `UpstreamForbidden`."""
        self.check_transport(realm)
        if self.is_listed(realm) or related(asked.host or "", realm.host or ""):
            return
        raise UpstreamForbidden(
            f"{self._registry}: its token service is at {origin_of(realm)}, another domain; credentials are not sent "
            f"there unless `realms` of the registry lists that host",
            registry=self._registry,
        )

    def check_transport(self, url: URL) -> None:
        """May credentials be sent to `url` at all? Raises `UpstreamForbidden`."""
        if url.scheme == "https" or self._insecure or is_loopback_host(url.host or ""):
            return
        raise UpstreamForbidden(
            f"{self._registry}: credentials are not sent to {origin_of(url)} over plain http; "
            f"use https, or `insecure = true` of the registry where the network can be trusted",
            registry=self._registry,
        )


def related(one: str, other: str) -> bool:
    """Whether two hosts are the same, or lie below the same registrable domain. Addresses only equal themselves."""
    one, other = one.lower().rstrip("."), other.lower().rstrip(".")
    if one == other:
        return True
    if parse_address(one) is not None or parse_address(other) is not None:
        return False
    domain = _suffixes().privatesuffix(one)
    return domain is not None and domain == _suffixes().privatesuffix(other)
