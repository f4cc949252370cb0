"""What a command costs: `mirror --help`, and `mirror images` beside `docker images`, with the same images held.

CPU and wall time of the command's own process, from its start to its end. docker is measured where a dockerd can be
had, which is as root.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

from benchmarks.peers import Mirror
from benchmarks.rounds import Measure, Row, interleaved, milliseconds
from tests.support.clients import Dockerd
from tests.support.images import Layout, layered_image
from tests.support.packages import program
from tests.support.processes import environment, scratch_folder
from tests.support.registry import DockerRegistry

_IMAGES = 20
_LAYERS = (40_000, 20_000)
_CPU_MS, _WALL_MS = 200.0, 150.0
_NAME = "bench/app"
#: What an installed `mirror` runs, from this tree.
_MIRROR = (sys.executable, "-c", "from mirror.cli import run; run()")


@dataclass(frozen=True, slots=True)
class _Cost:
    """Of one run, in seconds."""

    cpu: float
    wall: float


def _run(quick: bool) -> Iterator[Row]:
    rounds = 5 if quick else 30
    with ExitStack() as stack:
        layout = Layout(scratch_folder("image"))
        upstream = stack.enter_context(DockerRegistry())
        tags = [f"v{number}" for number in range(_IMAGES)]
        for tag in tags:
            upstream.push(layered_image(layout, _LAYERS, seed=tag), _NAME, tag)
        mirror = stack.enter_context(closing(Mirror(upstream.url)))
        mirror.start()
        server = ["--server", str(mirror.process.data)]
        commands = {"help": [*_MIRROR, "--help"], "mirror": [*_MIRROR, "images", *server]}
        if os.geteuid() == 0 and program("dockerd") is not None:
            dockerd = stack.enter_context(Dockerd([mirror.process.url], insecure=[mirror.process.authority]))
            for tag in tags:
                dockerd.pull(f"{_NAME}:{tag}")  # which fills the mirror, too
            docker = program("docker") or "docker"
            commands["docker"] = [docker, "--host", f"unix://{dockerd.address}", "images"]
        else:
            _cost([*_MIRROR, "pull", "--quiet", *server, *(f"{_NAME}:{tag}" for tag in tags)])
        for words in commands.values():
            _cost(words)  # the first one reads everything from the disk
        figures = interleaved(rounds, {name: partial(_cost, words) for name, words in commands.items()})
    yield from _rows("mirror --help", figures["help"], None)
    yield from _rows(f"mirror images, {_IMAGES} images", figures["mirror"], figures.get("docker"))


def _rows(measure: str, ours: Sequence[_Cost], docker: Sequence[_Cost] | None) -> Iterator[Row]:
    for what, limit in (("cpu", _CPU_MS), ("wall", _WALL_MS)):
        median = _median(ours, what)
        theirs = milliseconds(_median(docker, what)) if docker is not None else ""
        peer = "docker images" if docker is not None else ""
        yield Row(
            f"{measure}, {what.replace('cpu', 'CPU')}", milliseconds(median), peer, theirs, median * 1e3, limit, "ms"
        )


def _median(costs: Sequence[_Cost], what: str) -> float:
    return statistics.median(float(getattr(cost, what)) for cost in costs)


def _cost(words: Sequence[str]) -> _Cost:
    began = time.monotonic()
    process = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = process.stderr.read() if process.stderr is not None else ""
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stderr is not None:
        process.stderr.close()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}: {said}")
    return _Cost(usage.ru_utime + usage.ru_stime, wall)


MEASURE = Measure("cli", "what `mirror --help` and `mirror images` cost, beside `docker images`", _run)
