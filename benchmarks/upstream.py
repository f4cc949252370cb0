"""The registry that cold measures pull from: nginx over plain files, as cheap as one can be, counting what it sends."""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.packages import program
from tests.support.processes import Daemon, answers_http, free_port, scratch_folder

REPOSITORY = "bench/app"
MIB = 1 << 20
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"

_CONFIG = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    log_format sent "$request_method $uri $status $body_bytes_sent";
    access_log {folder}/access.log sent;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/t1;
    proxy_temp_path {folder}/t2;
    fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4;
    scgi_temp_path {folder}/t5;
    map_hash_bucket_size 256;
    map $uri $digest {{
        "~/(?<named>sha256:[0-9a-f]+)$" $named;
        {digests}
    }}
    server {{
        listen {host}:{port};
        root {folder}/files;
        types {{ }}
        add_header Docker-Content-Digest $digest;
        location = /v2/ {{ default_type application/json; return 200 "{{}}"; }}
        location ~ /manifests/ {{ default_type {manifest_type}; }}
        location / {{ default_type application/octet-stream; }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Blob:
    """What one path serves."""

    digest: str
    size: int

    @property
    def hex(self) -> str:
        return self.digest.partition(":")[2]


@dataclass(slots=True)
class Upstream:
    """Add content, then `start`. Everything lies in one repository. `host`: the address to listen on."""

    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    folder: Path = field(default_factory=lambda: scratch_folder("upstream"))
    tags: dict[str, str] = field(default_factory=dict)
    """Each tag and the digest of its manifest."""
    _log_offset: int = 0
    _daemon: Daemon | None = None

    @property
    def repository(self) -> Path:
        """The folder with `blobs` and `manifests`, each file named as it is asked for."""
        return self.folder / "files" / "v2" / REPOSITORY

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def add_blob(self, size: int) -> Blob:
        """A new blob of random bytes."""
        folder = self._folder("blobs")
        staging = folder / "staging"
        digest = hashlib.sha256()
        with staging.open("wb") as file:
            for start in range(0, size, MIB):
                piece = os.urandom(min(MIB, size - start))
                digest.update(piece)
                file.write(piece)
        blob = Blob(f"sha256:{digest.hexdigest()}", size)
        staging.rename(folder / blob.digest)
        return blob

    def add_image(self, tag: str, layers: list[Blob]) -> Blob:
        """An image's config and manifest, under that tag and by digest; returns the manifest."""
        config = self._keep("blobs", json.dumps({"os": "linux", "architecture": "amd64", "made for": tag}).encode())
        parts = [(_CONFIG_TYPE, config), *((_LAYER_TYPE, layer) for layer in layers)]
        described = [{"mediaType": kind, "digest": blob.digest, "size": blob.size} for kind, blob in parts]
        text = {"schemaVersion": 2, "mediaType": _MANIFEST_TYPE, "config": described[0], "layers": described[1:]}
        manifest = self._keep("manifests", json.dumps(text).encode())
        self.tag(tag, manifest)
        return manifest

    def tag(self, name: str, manifest: Blob) -> None:
        """Let a tag name a manifest that is here."""
        folder = self._folder("manifests")
        (folder / name).hardlink_to(folder / manifest.digest)
        self.tags[name] = manifest.digest

    def start(self) -> "Upstream":
        """Serve what was added."""
        config = self.folder / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                user="user root;" if os.geteuid() == 0 else "",
                folder=self.folder,
                host=self.host,
                port=self.port,
                digests="\n        ".join(
                    f'"/v2/{REPOSITORY}/manifests/{tag}" "{digest}";' for tag, digest in self.tags.items()
                ),
                manifest_type=_MANIFEST_TYPE,
            )
        )
        words = [program("nginx") or "nginx", "-p", str(self.folder), "-e", f"{self.folder}/error.log"]
        self._daemon = Daemon(
            "upstream", [*words, "-c", str(config)], folder=self.folder, ready=answers_http(self.host, self.port)
        )
        self._daemon.start()
        return self

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.stop()

    def forget_sent(self) -> None:
        """Let `sent_bytes` begin here."""
        self._log_offset = (self.folder / "access.log").stat().st_size

    def sent_bytes(self) -> int:
        """Body bytes sent since the start or the last `forget_sent`, of answers that have ended."""
        with (self.folder / "access.log").open() as log:
            log.seek(self._log_offset)
            return sum(int(line.split()[3]) for line in log)

    def _keep(self, kind: str, data: bytes) -> Blob:
        blob = Blob(f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
        (self._folder(kind) / blob.digest).write_bytes(data)
        return blob

    def _folder(self, kind: str) -> Path:
        folder = self.repository / kind
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def __enter__(self) -> "Upstream":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
