"""The translation of errors is total, and tells no secret."""

import asyncio
import inspect
import socket
import ssl
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions
from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from mirror.errors import UpstreamError, UpstreamForbidden, UpstreamInvalid, UpstreamUnreachable
from mirror.upstream.translate import FAILURES, AddressRefused, origin_of, translate
from tests.support.fake_registry import FakeRegistry
from tests.upstream.support import TAG, no_secret_in, source

SIGNED = URL("https://cdn.example:8443/blob?sig=abc&X-Amz-Signature=d", encoded=True)
KEY = ConnectionKey("cdn.example", 8443, True, True, None, None, None)


def instances() -> Iterator[BaseException]:
    """One of each of aiohttp's client exceptions, and of what lies below them."""
    request: Any = SimpleNamespace(real_url=SIGNED, method="GET", url=SIGNED, headers={})
    os_error = ConnectionRefusedError(111, "Connection refused")
    arguments: dict[type[BaseException], tuple[Any, ...]] = {
        aiohttp.ClientConnectorCertificateError: (KEY, ssl.SSLCertVerificationError(1, "certificate has expired")),
        aiohttp.ServerFingerprintMismatch: (b"a", b"b", "cdn.example", 443),
        client_exceptions.UnixClientConnectorError: ("/run/x", KEY, os_error),
    }
    for _, kind in inspect.getmembers(client_exceptions, inspect.isclass):
        if not issubclass(kind, aiohttp.ClientError):
            continue
        if kind in arguments:
            yield kind(*arguments[kind])
        elif issubclass(kind, aiohttp.ClientResponseError):
            yield kind(request, (), status=500, message=str(SIGNED))
        elif issubclass(kind, aiohttp.ClientConnectorError):
            yield kind(KEY, os_error)
        elif issubclass(kind, aiohttp.InvalidURL):
            yield kind(SIGNED)
        else:
            yield kind(f"broken at {SIGNED}")
    for _, kind in inspect.getmembers(http_exceptions, inspect.isclass):
        if issubclass(kind, http_exceptions.HttpProcessingError):
            yield _below(kind)
    yield from (
        TimeoutError(), asyncio.IncompleteReadError(b"", 1), EOFError(), BrokenPipeError(32, "Broken pipe"),
        ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), ssl.CertificateError(1, "bad"),
        socket.gaierror(-2, "Name or service not known"), OSError(), UnicodeEncodeError("ascii", "é", 0, 1, "no"),
    )  # fmt: skip


def _below(kind: Any) -> BaseException:
    """One of aiohttp's parser errors, whose constructors differ."""
    for arguments in ((), (str(SIGNED),), (b"x", 1)):
        try:
            made: BaseException = kind(*arguments)
        except TypeError:
            continue
        return made
    raise AssertionError(kind)


@pytest.mark.parametrize("error", list(instances()), ids=lambda error: type(error).__name__)
def test_every_failure_becomes_an_upstream_error(error: BaseException) -> None:
    """Fails when a version of aiohttp brings an exception that would pass through."""
    assert isinstance(error, FAILURES)
    translated = translate(error, registry="registry.test", url=SIGNED)
    assert isinstance(translated, UpstreamUnreachable | UpstreamInvalid)
    assert translated.registry == "registry.test"
    assert "https://cdn.example:8443" in translated.message
    no_secret_in(translated)


@pytest.mark.parametrize("error", list(instances()), ids=lambda error: type(error).__name__)
async def test_a_request_lets_none_of_them_through(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(aiohttp.ClientSession, "_request", fail)
    async with source("http://registry.test") as upstream:
        with pytest.raises(UpstreamError) as caught:
            await upstream.manifest(TAG)
    assert caught.value.__suppress_context__  # a traceback would print aiohttp's text, and with it the URL


def test_what_the_guard_refused_stays_what_it_is() -> None:
    wrapped = aiohttp.ClientConnectorError(KEY, AddressRefused("it led back to an address that this mirror listens on"))
    translated = translate(wrapped, registry="registry.test", url=SIGNED)
    assert isinstance(translated, UpstreamForbidden)
    assert "this mirror listens on" in translated.message


def test_our_own_errors_pass() -> None:
    error = UpstreamInvalid("x", registry="registry.test")
    assert translate(error, registry="other", url=SIGNED) is error


def test_control_characters_from_the_other_side_are_left_out() -> None:
    error = OSError(1, "evil\x1b[2J\u202e text")
    assert translate(error, registry="r", url=SIGNED).message.isprintable()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:password@host/path?query", "https://host"),
        ("http://host:81/x", "http://host:81"),
        ("http://[::1]:81/x", "http://[::1]:81"),
        ("/relative", "a URL without a host"),
    ],
)
def test_the_part_of_a_url_that_may_be_shown(url: str, shown: str) -> None:
    assert origin_of(URL(url)) == shown


async def test_sentences_say_what_happened(unused_tcp_port: int) -> None:
    async with source(f"http://127.0.0.1:{unused_tcp_port}") as upstream:
        with pytest.raises(UpstreamUnreachable, match="could not be reached: "):
            await upstream.manifest(TAG)
    async with source("http://name.invalid") as upstream:
        with pytest.raises(UpstreamUnreachable, match="name was not found"):
            await upstream.manifest(TAG)
    async with FakeRegistry() as plain, source(plain.url.replace("http:", "https:")) as upstream:
        with pytest.raises(UpstreamUnreachable, match="failed at TLS"):
            await upstream.manifest(TAG)
