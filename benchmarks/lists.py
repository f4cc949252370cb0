"""Lists of many tags (generated): the first answer after a start, `images`, `df`, and what meanwhile becomes of others.

CPU and memory are the server's; memory is its peak above what it took before. Nothing is on disk but the catalog.
"""

import http.client
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

from benchmarks.measure import forget_peak, peak_bytes, resident_bytes, rest, spending
from benchmarks.peers import Mirror
from benchmarks.rounds import Measure, Row, in_seconds, milliseconds
from benchmarks.upstream import MIB
from mirror.oci.names import Repository
from mirror.store.inventory import ImageRow, cursor_after
from mirror.store.protocols import Link, Origin
from tests.store.generated import digest_of_image, fill
from tests.support.processes import run

_TAGS = (10_000, 100_000)
_FIRST_MS = 1000.0
_PAGE = 1000
_NOWHERE = "http://127.0.0.1:9"  # nothing is asked upstream
_PING_S = 0.002


@dataclass(slots=True)
class _Spent:
    """Seconds of wall time and of the server's CPU, bytes of memory above idle, and the longest wait of others."""

    wall: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    waited: float = 0.0


def _run(quick: bool) -> Iterator[Row]:
    for tags in _TAGS[:1] if quick else _TAGS:
        yield from _measure(tags, 2 if quick else 5)


def _measure(tags: int, rounds: int) -> Iterator[Row]:
    mirror = Mirror(_NOWHERE)
    mirror.process.data.mkdir(mode=0o700, parents=True)
    fill(mirror.process.data / "mirror.db", tags)
    with closing(mirror):
        first = [_started(mirror) for _ in range(rounds)]
        wall = statistics.median(first)
        yield Row(f"{tags:,} tags: first answer after a start", in_seconds(wall), "", "", wall * 1e3, _FIRST_MS, "ms")
        for words, call in _calls(tags).items():
            spent = _spent(mirror, call)
            if spent is None:
                continue
            yield Row(
                f"{tags:,} tags: {words}",
                in_seconds(spent.wall),
                "CPU; others waited",
                f"{in_seconds(spent.cpu)}; {milliseconds(spent.waited)}",
                spent.memory / MIB,
                None,
                "MiB",
            )


def _calls(tags: int) -> dict[str, Callable[[http.client.HTTPConnection, Mirror], bool]]:
    """What is asked, each with whether there was an answer."""
    identifier = digest_of_image(str(tags // 2 + 1)).short
    return {
        f"images, a page of {_PAGE:,}": lambda server, _: _get(server, f"/images?limit={_PAGE}") is not None,
        "images, all": lambda server, _: _all(server, "") == tags,
        "images, totals (the last page)": lambda server, _: _last(server),
        "images, a filter on configs": lambda server, _: _all(server, "&filter=since%3D" + identifier) == 0,
        "one image by its short ID": lambda server, _: _get(server, f"/image?ref={identifier}") is not None,
        "layers of one image": lambda server, _: _get(server, f"/layers?ref={identifier}") is not None,
        "df": lambda server, _: _get(server, "/df") is not None,
        "mirror images, the command": lambda _, mirror: _command(mirror) == tags,
        f"a full collection, {tags // 100:,} blobs deleted": lambda _, mirror: _collected(mirror) == tags // 100,
    }


def _started(mirror: Mirror) -> float:
    """Stop it, and start it: seconds until a question about images is answered."""
    mirror.close()
    began = time.monotonic()
    mirror.start()
    with closing(http.client.HTTPConnection(mirror.server.host, mirror.server.port, timeout=60)) as server:
        if _get(server, "/images?limit=1") is None:
            raise RuntimeError("no answer after the start")
    return time.monotonic() - began


def _spent(mirror: Mirror, call: Callable[[http.client.HTTPConnection, Mirror], bool]) -> _Spent | None:
    """What one call costs, None where this mirror has no such route."""
    rest(mirror.pid)
    idle = resident_bytes(mirror.pid)
    forget_peak(mirror.pid)
    pinging = _Pinging(mirror)
    with closing(http.client.HTTPConnection(mirror.server.host, mirror.server.port, timeout=600)) as server:
        with spending(mirror.pid) as spent, pinging:
            answered = call(server, mirror)
        if not answered:
            return None
    return _Spent(spent.wall, spent.cpu, max(0, peak_bytes(mirror.pid) - idle), pinging.longest)


class _Pinging:
    """Somebody else, who asks for little all the time. `longest`: what he waited at most, in seconds."""

    def __init__(self, mirror: Mirror) -> None:
        self.longest = 0.0
        self._mirror = mirror
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ping)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ping(self) -> None:
        with closing(http.client.HTTPConnection(self._mirror.server.host, self._mirror.server.port)) as server:
            while not self._ended.wait(_PING_S):
                began = time.monotonic()
                server.request("GET", "/v2/")
                server.getresponse().read()
                self.longest = max(self.longest, time.monotonic() - began)


def _get(server: http.client.HTTPConnection, path: str) -> dict[str, object] | None:
    server.request("GET", f"/api/v1{path}")
    answer = server.getresponse()
    body = answer.read()
    if answer.status != http.client.OK:
        return None
    loaded: dict[str, object] = json.loads(body)
    return loaded


def _all(server: http.client.HTTPConnection, more: str) -> int:
    """How many images are listed, over all pages."""
    count, cursor = 0, ""
    while True:
        page = _get(server, f"/images?limit={_PAGE}{more}{cursor}")
        if page is None:
            return -1
        images = page["images"]
        count += len(images) if isinstance(images, list) else 0
        if page["next"] is None:
            return count
        cursor = f"&cursor={quote(str(page['next']))}"


def _last(server: http.client.HTTPConnection) -> bool:
    """The last page: behind a place that no repository of the generated ones comes after."""
    place = Repository("zzz.example", "z")
    row = ImageRow(place, "z", digest_of_image("1"), "", 0, Origin.UPSTREAM, Link(), 0, None, None, pinned=False)
    page = _get(server, f"/images?limit={_PAGE}&cursor={cursor_after(row)}")
    return page is not None and page["totals"] is not None


def _command(mirror: Mirror) -> int:
    """How many lines `mirror images` prints, its header taken off."""
    words = [sys.executable, "-m", "mirror", "images", "--server", mirror.process.url]
    return len(run(words).splitlines()) - 1


def _collected(mirror: Mirror) -> int:
    """How many blobs `mirror prune` deletes: what nothing needs."""
    return mirror.process.command("prune", "--force").count("Deleted: ")


MEASURE = Measure("lists", "lists of 10,000 and 100,000 tags: time, memory, and what others wait meanwhile", _run)
