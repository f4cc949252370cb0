"""The real docker command, asking as much of a dockerd as is played here: what it prints is what docker prints."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.scripted import Answer, Raw, Request, Scripted, on_socket

needs_docker = pytest.mark.skipif(shutil.which("docker") is None, reason="no docker command here")

_HEADERS = {"Api-Version": "1.40", "Ostype": "linux", "Content-Type": "application/json"}


class _Dockerd(Scripted):
    """Answers by the path without its version, whatever the method."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        super().__init__()
        self._played = answers

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        path = request.path if request.path == "/_ping" else "/" + request.path.split("/", 2)[-1]
        if path == "/_ping":
            return Raw(200, b"" if request.method == "HEAD" else b"OK", _HEADERS)
        if path not in self._played:
            return Raw(404, b'{"message": "not played"}', _HEADERS)
        return Raw(200, json.dumps(self._played[path]).encode(), _HEADERS)


@contextmanager
def docker_daemon(path: Path, answers: Mapping[str, Any]) -> Iterator[None]:
    """Play a dockerd on a socket: path (`/images/json`) → document."""
    with on_socket(path, _Dockerd(answers)):
        yield


def docker(tmp_path: Path, answers: Mapping[str, Any], *words: str) -> str:
    """What `docker WORDS…` prints where the daemon answers this."""
    with docker_daemon(tmp_path / "dockerd", answers):
        return subprocess.run(
            ["docker", "--config", str(tmp_path), "-H", f"unix://{tmp_path}/dockerd", *words],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
