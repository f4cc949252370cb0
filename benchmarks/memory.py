"""What 200 readers of one 1 GiB blob cost in memory above idle, cold and hot."""

from collections.abc import Iterator
from contextlib import closing

from benchmarks.load import together
from benchmarks.measure import forget_peak, peak_bytes, resident_bytes, rest
from benchmarks.peers import Mirror
from benchmarks.rounds import Measure, Row
from benchmarks.upstream import MIB, Upstream

_READERS = 200
_LIMIT = 60.0


def _run(quick: bool) -> Iterator[Row]:
    size = (256 if quick else 1024) * MIB
    with Upstream() as upstream:
        blob = upstream.add_blob(size)
        upstream.start()
        mirror = Mirror(upstream.url)
        with closing(mirror):
            mirror.start()
            rest(mirror.pid)
            idle = resident_bytes(mirror.pid)
            for words in ("cold", "hot"):
                forget_peak(mirror.pid)
                together(mirror.server, [mirror.blob_path(blob)] * _READERS)
                peak = (peak_bytes(mirror.pid) - idle) / MIB
                measure = f"{_READERS} {words} readers of {size // MIB} MiB, peak memory"
                yield Row(measure, f"{peak:.0f} MiB", "idle", f"{idle / MIB:.0f} MiB", peak, _LIMIT, "MiB")


MEASURE = Measure("memory", "peak memory above idle with 200 readers of one blob, cold and hot", _run)
