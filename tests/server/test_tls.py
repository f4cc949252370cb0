"""https on the mirror's own addresses, and a certificate that changes while it runs."""

import asyncio
import logging
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from mirror.errors import ConfigInvalid
from mirror.server import tls
from mirror.server.tls import Certificate
from tests.server.calls import Raw, connected
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.tls import Authority
from tests.support.images import MIB
from tests.support.mirror import Running, mirror_in_process


class Pair:
    """A certificate and its key where the mirror reads them."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        self.issue()

    def issue(self, *names: str) -> None:
        """Put a new pair there."""
        for made, place in zip(self.authority.files(*names), (self.certificate, self.key), strict=True):
            shutil.copy(made, place.with_suffix(".new"))
            place.with_suffix(".new").replace(place)

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority.certificate))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


# --- the files --------------------------------------------------------------------------------------------


def test_what_has_not_changed_is_not_read_again(pair: Pair) -> None:
    certificate = Certificate(pair.certificate, pair.key)
    assert isinstance(certificate.load(), ssl.SSLContext)
    assert certificate.changed() is None
    pair.issue()
    assert isinstance(certificate.changed(), ssl.SSLContext)
    assert certificate.changed() is None


def test_a_pair_that_does_not_fit_is_said_once_and_the_next_good_one_is_taken(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = Certificate(pair.certificate, pair.key)
    certificate.load()
    good = pair.key.read_bytes()
    pair.key.write_bytes(pair.authority.files()[1].read_bytes())
    for _ in range(3):
        assert certificate.changed() is None
    (said,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said.startswith("the old certificate goes on being used: ")
    assert said.endswith("the key is not this certificate's")
    pair.key.write_bytes(good)
    assert certificate.changed() is not None
    pair.key.unlink()
    assert certificate.changed() is None
    assert "No such file" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("what", ["no PEM", "encrypted", "missing", "mismatch"])
def test_what_cannot_be_used_ends_the_start(
    pair: Pair, what: Literal["no PEM", "encrypted", "missing", "mismatch"]
) -> None:
    match what:
        case "no PEM":
            pair.certificate.write_text("hello")
        case "encrypted":
            encrypted = pair.key.with_suffix(".enc")
            command = ["openssl", "pkey", "-in", pair.key, "-aes256", "-passout", "pass:x", "-out", encrypted]
            subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=30)
            encrypted.replace(pair.key)
        case "missing":
            pair.key.unlink()
        case "mismatch":
            shutil.copy(pair.authority.files()[1], pair.key)
    says = {
        "encrypted": "passphrase",
        "missing": "No such file",
        "mismatch": "not this certificate's",
        "no PEM": "PEM|NO_",
    }
    with pytest.raises(ConfigInvalid, match=says[what]) as caught:
        Certificate(pair.certificate, pair.key).load()
    assert caught.value.message.startswith("tls_cert, tls_key: ")


async def test_other_errors_of_the_loop_are_told_on() -> None:
    """Breaks if the silence about handshakes swallows a mistake of ours."""
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    restore = tls.quietly(loop)
    for context in (
        {"message": "SSL handshake failed", "exception": ConnectionResetError},
        {"message": "Error occurred during read", "exception": ssl.SSLError("x")},
        {"message": "broken", "exception": ValueError("x")},
    ):
        loop.call_exception_handler(context)
    restore()
    loop.call_exception_handler({"message": "SSL handshake failed"})
    loop.set_exception_handler(None)
    assert [each["message"] for each in told] == ["broken", "SSL handshake failed"]


# --- on the wire ------------------------------------------------------------------------------------------


@asynccontextmanager
async def https_mirror(folder: Path, hub: FakeRegistry, pair: Pair) -> AsyncIterator[Running]:
    (folder / "htpasswd").touch()
    more: dict[str, Any] = {
        "tls_cert": pair.certificate,
        "tls_key": pair.key,
        "listen_login": ["127.0.0.1:0"],
        "access": {"htpasswd": str(folder / "htpasswd")},
    }
    async with mirror_in_process(folder / "d", {"docker.io": hub.url}, **more) as mirror:
        mirror.url = mirror.url.replace("http://", "https://")
        yield mirror


@asynccontextmanager
async def secured(mirror: Running, client: ssl.SSLContext, place: int = 0) -> AsyncIterator[Raw]:
    host, port = mirror.app.listeners.addresses[place]
    reader, writer = await asyncio.open_connection(host, port, ssl=client)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


async def status(raw: Raw, path: str = "/v2/") -> int:
    raw.write(f"GET {path}", Host="127.0.0.1")
    return (await raw.answer()).status


async def serial(mirror: Running, client: ssl.SSLContext) -> str:
    """The serial number of the certificate that a new connection gets."""
    host, port = mirror.app.listeners.addresses[0]
    _, writer = await asyncio.open_connection(host, port, ssl=client)
    certificate = writer.get_extra_info("peercert")
    writer.close()
    await writer.wait_closed()
    return str(certificate["serialNumber"])


async def test_images_come_over_https_and_loopback_is_loopback(tmp_path: Path, pair: Pair) -> None:
    async with FakeRegistry() as hub, https_mirror(tmp_path, hub, pair) as mirror:
        image = hub.add_image("library/alpine", "3", layers=[1000, 5 * MIB])
        client = pair.client()
        for _ in range(2):  # from upstream, and from the disk
            for digest, data in image.layers:
                async with secured(mirror, client) as raw:
                    raw.write(f"GET /v2/library/alpine/blobs/{digest}", Host="127.0.0.1")
                    assert (await raw.answer()).body == data
            async with secured(mirror, client) as raw:
                raw.write("GET /v2/library/alpine/manifests/3", Host="127.0.0.1")
                assert (await raw.answer()).body == image.manifest.raw
                assert await status(raw, "/api/v1/status") == 200
            await mirror.idle()
        async with secured(mirror, client, 1) as raw:
            assert await status(raw) == 401


async def test_a_new_certificate_is_used_from_the_next_handshake_on(
    tmp_path: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.01)
    async with FakeRegistry() as hub, https_mirror(tmp_path, hub, pair) as mirror:
        client = pair.client()
        first = await serial(mirror, client)
        async with secured(mirror, client) as raw:
            assert await status(raw) == 200
            pair.issue("localhost", "127.0.0.1")
            while await serial(mirror, client) == first:
                await asyncio.sleep(0.01)
            assert await status(raw) == 200  # whoever was connected stays so
        second = await serial(mirror, client)
        pair.key.write_text("broken")
        await asyncio.sleep(0.1)
        assert await serial(mirror, client) == second
        assert mirror.app.listeners.bound() == set(mirror.app.listeners.addresses)


async def test_nobody_is_refused_while_the_certificate_changes(tmp_path: Path, pair: Pair) -> None:
    """Breaks if the old listening socket is closed before the new one accepts, or takes its queue with it."""
    async with FakeRegistry() as hub, https_mirror(tmp_path, hub, pair) as mirror:
        client, listeners = pair.client(), mirror.app.listeners
        certificate = Certificate(pair.certificate, pair.key)
        done = asyncio.Event()
        answered = 0

        async def ask() -> None:
            nonlocal answered
            while not done.is_set():
                async with secured(mirror, client) as raw:
                    assert await status(raw) == 200
                    answered += 1

        asking = [asyncio.get_running_loop().create_task(ask()) for _ in range(4)]
        for _ in range(20):
            before = answered
            await listeners.renew(await asyncio.to_thread(certificate.load))
            while answered == before and not any(each.done() for each in asking):
                await asyncio.sleep(0.001)
        done.set()
        await asyncio.gather(*asking)
        assert len(listeners._sites) == 2


@pytest.mark.parametrize("data", [b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01garbage", b""])
async def test_what_is_no_tls_is_nobodys_error(
    tmp_path: Path, pair: Pair, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeRegistry() as hub, https_mirror(tmp_path, hub, pair) as mirror:
        async with connected(*mirror.app.listeners.addresses[0]) as raw:
            raw.write_bytes(data)
            if data:
                assert not (await raw.rest()).startswith(b"HTTP/1.1 200")
        async with secured(mirror, pair.client()) as raw:
            assert await status(raw) == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
