"""The certificate of the TCP addresses, read again when its files change. Reading blocks, and is for threads."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mirror.errors import ConfigInvalid

log = logging.getLogger(__name__)

LOOK_EVERY = 2.0  # seconds between looks at the files
_Seen = tuple[tuple[int, int, int, int], ...]


def quietly(loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
    """From now on a client that speaks no TLS, or leaves in mid-handshake, is no error of this loop's; returns what
    takes that back. Port scans and health checks do it all day, and podman asks for http and https in turn."""
    before = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") == "SSL handshake failed" or isinstance(context.get("exception"), ssl.SSLError):
            log.debug("a client and TLS: %r", context.get("exception"))
        elif before is not None:
            before(loop, context)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
    return lambda: loop.set_exception_handler(before)


class Certificate:
    """A certificate with its chain, and its key, in PEM files."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._seen: _Seen | None = None

    def load(self) -> ssl.SSLContext:
        """The context of a server with what the files hold now. Raises `ConfigInvalid` where they do not fit."""
        self._seen = self._look()
        return self._context()

    def changed(self) -> ssl.SSLContext | None:
        """A new context if the files have changed and hold a pair that fits; one that does not is logged, once."""
        seen = self._look()
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            context = self._context()
        except ConfigInvalid as error:
            log.warning("the old certificate goes on being used: %s", error.message)
            return None
        log.info("new certificate: %s", self._files[0])
        return context

    def _look(self) -> _Seen | None:
        try:
            found = [file.stat() for file in self._files]
        except OSError:
            return None
        return tuple((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in found)

    def _context(self) -> ssl.SSLContext:
        certificate, key = self._files
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(certificate, key, password=_no_passphrase)
        except (ssl.SSLError, OSError, ValueError, _Passphrase) as error:
            raise ConfigInvalid(f"tls_cert, tls_key: {certificate} and {key} cannot be used: {_why(error)}") from error
        return context


class _Passphrase(Exception):
    pass


def _no_passphrase() -> str:
    """Called for a key that is encrypted: OpenSSL would ask on the terminal."""
    raise _Passphrase


def _why(error: Exception) -> str:
    if isinstance(error, _Passphrase):
        return "the key is protected by a passphrase, and nobody is there to type it"
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return "the key is not this certificate's"
        return f"{error.reason or 'they hold no certificate and key in PEM form'}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
