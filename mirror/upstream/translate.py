"""Every way in which a connection fails, as one `UpstreamError`.

aiohttp's texts carry whole URLs, and a CDN's URL is a secret while it lasts: what is said here is said in our own
words, with scheme, host and port at most. So errors are raised `from None`.
"""

import asyncio
import socket
import ssl
from typing import TypeVar

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from mirror.errors import UpstreamError, UpstreamForbidden, UpstreamInvalid, UpstreamUnreachable

FAILURES: tuple[type[BaseException], ...] = (
    aiohttp.ClientError,
    HttpProcessingError,
    asyncio.TimeoutError,
    asyncio.IncompleteReadError,
    asyncio.LimitOverrunError,
    OSError,  # ssl.SSLError, socket.gaierror and the guard's AddressRefused are such
    EOFError,
    UnicodeError,
)
"""What a request or a read may raise."""


E = TypeVar("E", bound=BaseException)
_DEPTH = 8


class AddressRefused(OSError):
    """The guard let no connection be made. Its text is fit to be shown."""


def origin_of(url: URL) -> str:
    """Scheme, host and port: all of a URL that may be shown."""
    return f"{url.scheme}://{url.host_port_subcomponent}" if url.host else "a URL without a host"


def translate(error: BaseException, *, registry: str, url: URL) -> UpstreamError:
    """What `error`, met while talking to `url` on behalf of `registry`, means."""
    if isinstance(error, UpstreamError):
        return error
    where = origin_of(url)
    refused = _find(error, AddressRefused)
    if refused is not None:
        return UpstreamForbidden(f"{registry}: {refused}", registry=registry)
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError | UnicodeError):
        return UpstreamInvalid(f"{registry}: it led to a malformed URL at {where}", registry=registry)
    return UpstreamUnreachable(f"{registry}: {where} {_reason(error)}", registry=registry)


def _reason(error: BaseException) -> str:
    """The rest of a sentence that begins with a host."""
    certificate = _find(error, ssl.SSLCertVerificationError)
    if certificate is not None:
        inner = getattr(certificate, "certificate_error", certificate)  # aiohttp's own is both wrapper and wrapped
        return f"has a certificate that was not accepted: {_plain(getattr(inner, 'verify_message', 'it is not valid'))}"
    if isinstance(error, aiohttp.ClientSSLError) or _find(error, ssl.SSLError) is not None:
        return f"failed at TLS: {_plain(_tls_reason(error))}"
    if _find(error, socket.gaierror) is not None:
        return "has no address: the name was not found"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"could not be reached: the proxy answered {error.status}"
    for kinds, words in _WORDS:
        if isinstance(error, kinds):
            return words
    if isinstance(error, OSError):
        return f"could not be reached: {_errno(error)}"
    return f"failed ({type(error).__name__})"


_WORDS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    # The order matters: some are subclasses of OSError, and of each other.
    ((aiohttp.ClientConnectorDNSError,), "has no address: the name was not found"),
    ((aiohttp.ConnectionTimeoutError,), "could not be connected to in time"),
    ((TimeoutError,), "did not answer in time"),
    ((aiohttp.ClientProxyConnectionError,), "could not be reached: there is no connection to the proxy"),
    ((aiohttp.ClientPayloadError, asyncio.IncompleteReadError), "ended its answer early"),
    ((aiohttp.ServerDisconnectedError,), "closed the connection without an answer"),
    ((aiohttp.ClientResponseError, HttpProcessingError), "answered with something that is not HTTP"),
)


def _errno(error: OSError) -> str:
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return _plain(inner.strerror or type(inner).__name__)


def _tls_reason(error: BaseException) -> str:
    inner = _find(error, ssl.SSLError)
    return (getattr(inner, "reason", None) or "no common ground").replace("_", " ").lower()


def _plain(text: object) -> str:
    """Printable ASCII, short: some of these words come from the other side."""
    return "".join(c for c in str(text) if c.isascii() and c.isprintable())[:200].rstrip(".")


def _find(error: BaseException | None, kind: type[E]) -> E | None:
    """The first of this kind among `error`, what it wraps, and what it came from."""
    for _ in range(_DEPTH):
        if error is None or isinstance(error, kind):
            return error
        wrapped = (getattr(error, name, None) for name in ("os_error", "certificate_error", "__cause__"))
        error = next((inner for inner in wrapped if isinstance(inner, BaseException) and inner is not error), None)
    return None
