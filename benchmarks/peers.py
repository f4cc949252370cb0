"""Who is measured: the mirror, and beside it what people use today. Each with folders and a loopback port of its own.

A peer that was started `fresh` holds nothing. All run as they are shipped but for a log of requests where they can
write one, since ours is on too.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.load import Server
from benchmarks.upstream import REPOSITORY, Blob, Upstream
from tests.support.mirror import MirrorProcess
from tests.support.netns import Namespace
from tests.support.packages import program
from tests.support.processes import Daemon, answers_tcp, environment, free_port, scratch_folder
from tests.support.registry import DockerRegistry

DRAYAGE = "0.2.9"


class Peer(Protocol):
    """A server that is measured."""

    name: str

    @property
    def pid(self) -> int: ...
    @property
    def server(self) -> Server: ...
    def blob_path(self, blob: Blob) -> str:
        """What to GET for a blob."""

    def holds(self, blob: Blob) -> bool:
        """Whether it is stored for good. Costs the peer nothing."""

    def start(self) -> None: ...
    def close(self) -> None:
        """Stop. Its files stay until the measure is over: ext4 is slow at making files just after many were removed."""


def manifest_path(reference: str) -> str:
    """What to GET for a manifest, by tag or digest: the same everywhere."""
    return f"/v2/{REPOSITORY}/manifests/{reference}"


def blob_path(blob: Blob) -> str:
    """What to GET for a blob: the same for every registry."""
    return f"/v2/{REPOSITORY}/blobs/{blob.digest}"


class Mirror:
    """`mirror serve` in front of the registry at `upstream_url` (None: of nothing), its access log on. `inside`: a
    namespace to run in; `own`: names that may be pushed without asking;
    `more`: further registries, by their settings."""

    name = "mirror"

    def __init__(
        self,
        upstream_url: str | None,
        *,
        inside: Namespace | None = None,
        own: Sequence[str] = (),
        more: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        self._folder = scratch_folder("mirror")
        self.process = MirrorProcess(
            self._folder,
            {"docker.io": upstream_url or "http://127.0.0.1:9", **(more or {})},
            environment={"MIRROR_OWN": ",".join(own)} if own else {},
            host=inside.address if inside is not None else "127.0.0.1",
            arguments=("--access-log", str(self._folder / "access.log")),
            prefix=tuple(inside.prefix) if inside is not None else (),
        )

    @property
    def pid(self) -> int:
        return self.process.daemon.pid

    @property
    def server(self) -> Server:
        return Server(self.process.host, self.process.port)

    def blob_path(self, blob: Blob) -> str:
        return blob_path(blob)

    def holds(self, blob: Blob) -> bool:
        return (self.process.data / "blobs" / "sha256" / blob.hex).exists()

    def start(self) -> None:
        self.process.start()

    def close(self) -> None:
        self.process.stop()


class Distribution:
    """Debian's docker-registry: a plain one, or in proxy mode in front of `upstream`."""

    def __init__(self, upstream: Upstream | None) -> None:
        self.name = "docker-registry" if upstream is None else "docker-registry proxy"
        self._registry = DockerRegistry(proxy_of=None if upstream is None else upstream.url)

    @property
    def pid(self) -> int:
        return self._registry.daemon.pid

    @property
    def server(self) -> Server:
        return Server(self._registry.host, self._registry.port)

    def blob_path(self, blob: Blob) -> str:
        return blob_path(blob)

    def holds(self, blob: Blob) -> bool:
        return (self._folder / "repositories" / REPOSITORY / "_layers/sha256" / blob.hex / "link").exists()

    def seed(self, upstream: Upstream) -> None:
        """Put the content of `upstream` into a plain one's storage, as if it had been pushed."""
        repository = self._folder / "repositories" / REPOSITORY
        for kind, linked in (("blobs", "_layers/sha256"), ("manifests", "_manifests/revisions/sha256")):
            for file in (upstream.repository / kind).glob("sha256:*"):
                digest = file.name
                data = self._folder / "blobs/sha256" / digest[7:9] / digest[7:] / "data"
                data.parent.mkdir(parents=True)
                data.hardlink_to(file)
                _write(repository / linked / digest[7:] / "link", digest)
        for tag, digest in upstream.tags.items():
            _write(repository / "_manifests/tags" / tag / "current/link", digest)

    def start(self) -> None:
        self._registry.start()

    def close(self) -> None:
        self._registry.stop()

    @property
    def _folder(self) -> Path:
        return self._registry.storage / "docker/registry/v2"


class Drayage:
    """PyPI's `drayage`, a pull-through cache in Rust, in a virtual environment of its own below `~/.cache`."""

    name = "drayage"

    def __init__(self, upstream: Upstream) -> None:
        self._folder = scratch_folder("drayage")
        self._port = free_port()
        (self._folder / "cache").mkdir()
        config = self._folder / "config.toml"
        config.write_text(
            f'listen = "127.0.0.1:{self._port}"\ncache_dir = "{self._folder}/cache"\nmanifest_ttl_seconds = 900\n'
            f'[upstreams.docker_io]\nregistry = "{upstream.url}"\n'
        )
        self._daemon = Daemon(
            "drayage",
            [str(drayage_program()), "serve", "-c", str(config)],
            folder=self._folder,
            ready=answers_tcp("127.0.0.1", self._port),
        )

    @property
    def pid(self) -> int:
        return self._daemon.pid

    @property
    def server(self) -> Server:
        return Server("127.0.0.1", self._port)

    def blob_path(self, blob: Blob) -> str:
        return blob_path(blob)

    def holds(self, blob: Blob) -> bool:
        return any(True for _ in (self._folder / "cache").rglob(f"*{blob.hex}*"))

    def start(self) -> None:
        self._daemon.start()

    def close(self) -> None:
        self._daemon.stop()


class StaticFiles:
    """nginx with Debian's own settings for files, over the files of `upstream`: the least that serving can cost."""

    name = "nginx"

    def __init__(self, upstream: Upstream) -> None:
        self._folder = scratch_folder("nginx")
        self._port = free_port()
        config = self._folder / "nginx.conf"
        temporary = "".join(
            f"{kind}_temp_path {self._folder}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(
            f"{'user root;' if os.geteuid() == 0 else ''} daemon off; worker_processes auto;"
            f"pid {self._folder}/nginx.pid; error_log {self._folder}/error.log; events {{ worker_connections 768; }}\n"
            f"http {{ {temporary} sendfile on; tcp_nopush on; keepalive_requests 1000000; types {{ }}\n"
            f"access_log {self._folder}/access.log;\n"
            f"server {{ listen 127.0.0.1:{self._port}; root {upstream.folder}/files; }} }}\n"
        )
        self._daemon = Daemon(
            "nginx",
            [program("nginx") or "nginx", "-e", f"{self._folder}/error.log", "-c", str(config)],
            folder=self._folder,
            ready=answers_tcp("127.0.0.1", self._port),
        )

    @property
    def pid(self) -> int:
        return self._daemon.pid

    @property
    def server(self) -> Server:
        return Server("127.0.0.1", self._port)

    def blob_path(self, blob: Blob) -> str:
        return blob_path(blob)

    def holds(self, blob: Blob) -> bool:
        del blob
        return True

    def start(self) -> None:
        self._daemon.start()

    def close(self) -> None:
        self._daemon.stop()


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def drayage_program() -> Path:
    """drayage's program, installed by pip on the first call (one wheel of 4 MB)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mirror-benchmarks"
    folder = cache / f"drayage-{DRAYAGE}"
    found = folder / "bin" / "drayage"
    if not found.exists():
        cache.mkdir(parents=True, exist_ok=True)
        for words in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(folder / "bin" / "pip"), "install", "--quiet", f"drayage=={DRAYAGE}"],
        ):
            subprocess.run(words, env={**os.environ, **environment()}, check=True, timeout=300)
    return found
