"""An open blob body: bytes as they arrive, and an error where they stop too early."""

from collections.abc import AsyncIterator, Callable
from typing import Self

from mirror.errors import UpstreamError, UpstreamInvalid, UpstreamUnreachable
from mirror.upstream.bodies import finish
from mirror.upstream.translate import FAILURES, origin_of, translate
from mirror.upstream.transport import Response


class BlobDownload:
    """A `Download` (protocols.py) over one response.

    `end` is where the body must end, None where that is not known. Whatever arrived before a break is handed over
    first, then the error is raised: nothing that was paid for is fetched again.
    """

    def __init__(
        self,
        response: Response | None,
        *,
        registry: str,
        offset: int,
        size: int | None,
        end: int | None,
        on_bytes: Callable[[int], None],
        on_break: Callable[[], None],
    ) -> None:
        self._response = response
        self._registry = registry
        self._offset = offset
        self._position = offset
        self._size = size
        self._end = end
        self._on_bytes = on_bytes
        self._on_break = on_break
        self._failure: UpstreamError | None = None

    @property
    def size(self) -> int | None:
        """The whole blob's length in bytes."""
        return self._size

    @property
    def offset(self) -> int:
        """Where the body begins."""
        return self._offset

    @property
    def chunks(self) -> AsyncIterator[bytes]:
        """The body, once. Chunks are never empty."""
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        response = self._response
        chunk = b"" if response is None else await self._read(response)
        if not chunk:
            self._check_end()
            raise StopAsyncIteration
        self._position += len(chunk)
        self._on_bytes(len(chunk))
        if self._end is not None and self._position > self._end:
            raise UpstreamInvalid(f"{self._registry} sent more bytes than it announced", registry=self._registry)
        return chunk

    def close(self) -> None:
        """Be done with it, at its end or before."""
        if self._response is not None:
            finish(self._response)

    async def _read(self, response: Response) -> bytes:
        try:
            return await response.content.readany()
        except FAILURES as error:
            self._failure = translate(error, registry=self._registry, url=response.url)
            self._on_break()
            arrived = _salvage(response)
            if arrived:
                return arrived
            raise self._failure from None

    def _check_end(self) -> None:
        if self._end is not None and self._position < self._end:
            where = origin_of(self._response.url) if self._response is not None else "it"
            self._on_break()
            raise UpstreamUnreachable(
                f"{self._registry}: {where} ended its answer early, at byte {self._position} of {self._end}",
                registry=self._registry,
            )


def _salvage(response: Response) -> bytes:
    """What arrived before the break: aiohttp would raise and drop it, up to the size of its buffer."""
    content = response.content
    failure = content.exception()
    if failure is None:
        return b""
    content.set_exception(None)  # type: ignore[arg-type]  # the only way to the rest of the buffer
    try:
        return content.read_nowait(-1)
    finally:
        content.set_exception(failure)
