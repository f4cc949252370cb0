"""What the upstream tests share: sources over fake registries, and the errors they end in."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mirror.clock import Clock
from mirror.config.model import RegistrySettings, Settings
from mirror.errors import UpstreamError
from mirror.oci.digest import Digest
from mirror.oci.names import Reference, Repository
from mirror.upstream.client import RegistrySource
from mirror.upstream.destination import RegistryDestination
from mirror.upstream.registries import Registries
from tests.support.fake_registry.content import FakeImage

NAME = "registry.test"
REPOSITORY = Repository(NAME, "team/app")
TAG = Reference(REPOSITORY, "1", None)
BLOB = 3_000_000
"""Bytes of the large layer of the `image` fixture."""
USER, PASSWORD = "alice", "pass-word-7"
SECRETS = (PASSWORD, "secret-token", "X-Amz", "sig=")


def settings(registries: Mapping[str, Mapping[str, Any]], data: Path = Path("/nonexistent")) -> Settings:
    """Settings with these registries and nothing else that matters."""
    return Settings(data=data, registries={name: RegistrySettings(**values) for name, values in registries.items()})


@asynccontextmanager
async def upstreams(
    *,
    clock: Clock | None = None,
    environment: Mapping[str, str] | None = None,
    listening: Callable[[], set[tuple[str, int]]] = set,
    offline: Callable[[], bool] = lambda: False,
    probe_interval: float = 30.0,
    headers_seconds: float = 5.0,
    registries: Mapping[str, Mapping[str, Any]] | None = None,
    **values: Any,
) -> AsyncIterator[Registries]:
    """`Registries` with one registry `NAME` of these settings (or with `registries`), started; closed at the end."""
    made = Registries(
        settings(registries if registries is not None else {NAME: values}),
        clock=clock or Clock(),
        instance="this-mirror",
        listening=listening,
        offline=offline,
        environment=environment or {},
        probe_interval=probe_interval,
        headers_seconds=headers_seconds,
    )
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def source(url: str | tuple[str, ...], *, anonymous: bool = True, **values: Any) -> AsyncIterator[RegistrySource]:
    """One source of the registry at `url`; with credentials (those of `USER`) unless `anonymous`."""
    if not anonymous and "environment" not in values and "password_file" not in values:
        values = {"username": USER, "password": PASSWORD, **values}
    async with upstreams(url=url, **values) as made:
        chosen = made.source(NAME, anonymous=anonymous)
        assert isinstance(chosen, RegistrySource)
        yield chosen


@asynccontextmanager
async def destination(
    url: str | tuple[str, ...], *, anonymous: bool = True, **values: Any
) -> AsyncIterator[RegistryDestination]:
    """The registry at `url` as it is written to; with credentials (those of `USER`) unless `anonymous`."""
    if not anonymous:
        values = {"username": USER, "password": PASSWORD, **values}
    async with upstreams(url=url, **values) as made:
        chosen = made.destination(NAME)
        assert isinstance(chosen, RegistryDestination)
        yield chosen


async def read(source: RegistrySource, digest: str, offset: int = 0, end: int | None = None) -> bytes:
    """The bytes that `open` gives, whole."""
    async with source.open(REPOSITORY, Digest.parse(digest), offset, end) as download:
        return b"".join([chunk async for chunk in download.chunks])


def layer(image: FakeImage) -> tuple[str, bytes]:
    """The large layer of the `image` fixture."""
    return image.layers[0]


async def read_until_broken(
    source: RegistrySource, digest: str, offset: int = 0, end: int | None = None
) -> tuple[bytes, UpstreamError]:
    """What arrived before the error, and the error."""
    arrived = bytearray()
    try:
        async with source.open(REPOSITORY, Digest.parse(digest), offset, end) as download:
            async for chunk in download.chunks:
                arrived += chunk
    except UpstreamError as error:
        return bytes(arrived), error
    raise AssertionError("nothing broke")


def no_secret_in(*texts: object) -> None:
    """None of what must not be seen is in these."""
    for text in texts:
        for secret in SECRETS:
            assert secret not in str(text)
            assert secret not in repr(text)
