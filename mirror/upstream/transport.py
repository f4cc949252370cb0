"""One registry's connections: sessions by reach, TLS, timeouts, proxies. One request, no redirect, no retry.

A blob may take hours, so nothing limits a whole request: the idle limit alone ends one that fell silent. The time
until the headers is the caller's to bound (`asyncio.timeout`).
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from mirror import __version__
from mirror.clock import Clock
from mirror.config.model import RegistrySettings
from mirror.errors import ConfigInvalid, UpstreamForbidden, UpstreamUnreachable
from mirror.upstream.guard import Guard, IPAddress, Reach, is_loopback_host, is_public, parse_address, refusals
from mirror.upstream.loops import VIA, via_header
from mirror.upstream.proxies import Proxies
from mirror.upstream.translate import FAILURES, AddressRefused, translate
from mirror.upstream.upload import UploadBody

CONNECTIONS_PER_HOST = 128
READ_BUFFER = 1 << 19
"""Bytes that wait unread before the socket is paused; half as much again may be on its way."""

log = logging.getLogger(__name__)
_HEADER_LIMIT = 1 << 16
_CA_CHECK_SECONDS = 10.0
_KEEP_ALIVE_SECONDS = 30.0
_WRITES = frozenset({"PATCH", "PUT"})
_DEFAULT_HEADERS = {"User-Agent": f"mirror/{__version__}", "Accept-Encoding": "identity"}


class Response(aiohttp.ClientResponse):
    """An answer that remembers whom it came from: by the time it is read, the connection may be released."""

    peer: IPAddress | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """aiohttp's hook for reading the headers."""
        transport = connection.transport
        address = transport.get_extra_info("peername") if transport is not None else None
        if isinstance(address, tuple):
            self.peer = parse_address(str(address[0]))
        return await super().start(connection)


class Transport:
    """Sends single requests for one registry. Sessions are made at first use, in the running loop."""

    def __init__(
        self,
        registry: str,
        settings: RegistrySettings,
        *,
        clock: Clock,
        instance: str,
        guard: Guard,
        proxies: Proxies,
    ) -> None:
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._instance = instance
        self._guard = guard
        self._proxies = proxies
        self._sessions: dict[Reach, aiohttp.ClientSession] = {}
        self._authority = Authority(settings.ca_file, clock)
        connect_seconds = settings.connect_timeout or None
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_seconds, sock_read=settings.idle_timeout or None
        )
        self._unhurried = aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds)

    async def send(
        self,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str],
        reach: Reach,
        form: Mapping[str, str] | None = None,
        body: bytes | UploadBody | None = None,
    ) -> Response:
        """One request; the answer's body is yet to be read, and the caller closes or releases it.

        A PATCH or PUT may be answered late: how long it may take is all the caller's to bound.

        Raises `UpstreamForbidden`, `UpstreamInvalid` or `UpstreamUnreachable`.
        """
        proxy = self._proxies.choose(url)
        shown: dict[str, str] = {}
        if proxy is not None:
            self._check_name(url, reach)
            shown = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
        plain = shown if url.scheme == "http" else {}  # else it goes with the CONNECT alone
        noted: list[AddressRefused] = []
        token = refusals.set(noted)
        try:
            session = await self._session(Reach.CONFIGURED if proxy else reach)
            response = await session.request(
                method,
                url,
                headers={VIA: via_header(self._instance), **headers, **plain},
                data=form if body is None else body,
                timeout=self._unhurried if method in _WRITES else self._timeout,
                allow_redirects=False,
                proxy=proxy.url if proxy else None,
                proxy_headers=shown or None,
            )
        except ConfigInvalid as error:
            raise UpstreamUnreachable(f"{self._registry}: {error.message}", registry=self._registry) from None
        except FAILURES as error:
            raise translate(noted[0] if noted else error, registry=self._registry, url=url) from None
        finally:
            refusals.reset(token)
        answer = cast("Response", response)  # `response_class` of every session
        if proxy is not None:
            answer.peer = None  # the proxy's address says nothing
        return answer

    def leads_inward(self, response: Response) -> bool:
        """Whether the answer came from an address that is not public, so that it may lead to such."""
        if response.peer is not None:
            return not is_public(response.peer)
        host = response.url.host or ""
        literal = parse_address(host)
        return is_loopback_host(host) if literal is None else not is_public(literal)

    def reach_from(self, response: Response, reach: Reach) -> Reach:
        """How far `response`, itself reached with `reach`, may lead: inward only from inside, all the way."""
        return Reach.INNER if reach is not Reach.OUTER and self.leads_inward(response) else Reach.OUTER

    async def close(self) -> None:
        """Close all connections. A later request opens new ones."""
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()

    def _check_name(self, url: URL, reach: Reach) -> None:
        refusal = self._guard.name_refusal(url.host or "", url.port or 0, reach)
        if refusal is not None:
            raise UpstreamForbidden(f"{self._registry}: {refusal}", registry=self._registry)

    async def _session(self, reach: Reach) -> aiohttp.ClientSession:
        if await self._authority.changed():
            await self.close()  # connections made under the old authority
        session = self._sessions.get(reach)
        if session is None:
            session = self._sessions[reach] = self._open_session(reach)
        return session

    def _open_session(self, reach: Reach) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=CONNECTIONS_PER_HOST,
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
            socket_factory=self._guard.socket_factory(reach),
            ssl=self._authority.context or True,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_DEFAULT_HEADERS,
            response_class=Response,
            timeout=self._timeout,
            auto_decompress=False,
            read_bufsize=READ_BUFFER,
            max_line_size=_HEADER_LIMIT,
            max_field_size=_HEADER_LIMIT,
            trust_env=False,  # no netrc: credentials come from where the settings say
        )


class Authority:
    """Whose certificates are accepted: the system's, and those of `ca_file`, which is read again when it changes."""

    def __init__(self, file: Path | None, clock: Clock) -> None:
        self.context: ssl.SSLContext | None = None  # None: the system's
        self._file = file
        self._clock = clock
        self._checked_at: float | None = None
        self._stamp: tuple[int, int, int] | None = None

    async def changed(self) -> bool:
        """Look at the file, at most every 10 s, and whether `context` is another since the last call.

        Raises `ConfigInvalid` where the file cannot be read and never could; else the last context stays.
        """
        if self._file is None:
            return False
        now = self._clock.monotonic()
        if self._checked_at is not None and now - self._checked_at < _CA_CHECK_SECONDS:
            return False
        self._checked_at = now
        loaded = await asyncio.to_thread(self._load, self._file)
        if loaded is None:
            return False
        self._stamp, self.context = loaded
        return True

    def _load(self, file: Path) -> tuple[tuple[int, int, int], ssl.SSLContext] | None:
        """Another file's stamp and context; None where it is the same."""
        try:
            status = os.stat(file)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return None
            context = ssl.create_default_context()
            context.load_verify_locations(cafile=file)
        except (OSError, ssl.SSLError) as error:
            if self._stamp is not None:
                log.warning("ca_file %s cannot be read, the last one stays in force: %s", file, error.strerror)
                return None
            raise ConfigInvalid(f"ca_file {file}: {error.strerror or 'no certificate in it'}") from None
        context.set_alpn_protocols(["http/1.1"])
        return stamp, context
