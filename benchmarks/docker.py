"""A cold pull by a real dockerd over a line of 1 Gbit/s, through the mirror and direct: wall time.

dockerd and the mirror live in a network namespace; the upstream is outside, and `tc tbf` shapes the way in. Needs root.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

from benchmarks.peers import Mirror
from benchmarks.rounds import Measure, Row, compared, in_seconds, interleaved
from tests.support.clients import Dockerd
from tests.support.images import MIB, Image, Layout, layered_image
from tests.support.netns import Namespace
from tests.support.processes import scratch_folder
from tests.support.registry import DockerRegistry

_RATE = "1gbit"
_LAYERS = (200 * MIB, 100 * MIB, 60 * MIB, 20 * MIB, 5 * MIB)
_NAME, _TAG = "bench/app", "1"
_DIRECT = "dockerd direct"


def _run(quick: bool) -> Iterator[Row]:
    with ExitStack() as stack:
        image = layered_image(Layout(scratch_folder("image")), _LAYERS)
        namespace = stack.enter_context(Namespace())
        upstream = stack.enter_context(DockerRegistry(host=namespace.host_address))
        upstream.push(image, _NAME, _TAG)
        namespace.shape(_RATE, burst="1mb", latency="50ms")
        contenders: dict[str, Callable[[], float]] = {
            "mirror": lambda: _through(namespace, upstream, image),
            _DIRECT: lambda: _direct(namespace, upstream, image),
        }
        figures = interleaved(1 if quick else 5, contenders)
    yield from compared("cold pull by dockerd at 1 Gbit/s, wall", figures, {_DIRECT: 1.05}, in_seconds)


def _through(namespace: Namespace, upstream: DockerRegistry, image: Image) -> float:
    with closing(Mirror(upstream.url, inside=namespace)) as mirror:
        mirror.start()
        process = mirror.process
        with Dockerd([process.url], insecure=[process.authority], inside=namespace) as dockerd:
            return _pull(dockerd, f"{_NAME}:{_TAG}", image)


def _direct(namespace: Namespace, upstream: DockerRegistry, image: Image) -> float:
    with Dockerd(insecure=[upstream.authority], inside=namespace) as dockerd:
        return _pull(dockerd, f"{upstream.authority}/{_NAME}:{_TAG}", image)


def _pull(dockerd: Dockerd, name: str, image: Image) -> float:
    began = time.monotonic()
    dockerd.pull(name)
    took = time.monotonic() - began
    if dockerd.image_id(name) != image.config.digest:
        raise RuntimeError(f"dockerd has another image under {name}")
    return took


MEASURE = Measure("docker", "a cold pull by dockerd over 1 Gbit/s, through the mirror and direct", _run)
