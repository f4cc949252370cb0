"""Debian's docker-registry as a process of the tests, and uploading images to any registry.

Uploads speak plain HTTP through the standard library, so that seeding needs no other program.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlencode, urljoin, urlsplit

from tests.support.images import MIB, Blob, Image, Index
from tests.support.packages import program
from tests.support.processes import Daemon, answers_http, free_port, scratch_folder

USER, PASSWORD = "tester", "let-me-in"
"""The one login of a registry with `authentication`."""

_HTPASSWD = f"{USER}:$2b$05$mirrortestsmirrortesteMWZjQFOgWLcEampZDOtllhkyO2yJJ7y\n"
_ACCESS_LINE = re.compile(r'^\S+ - \S+ \[[^\]]*\] "([A-Z]+) (\S+) [^"]*" (\d+) (\d+) "[^"]*" "([^"]*)"$')


class UploadError(Exception):
    """A registry refused an upload; the message carries its answer."""


@dataclass(frozen=True, slots=True)
class Request:
    """One line of a registry's access log. `sent` counts the body's bytes, `target` is path and query."""

    method: str
    target: str
    status: int
    sent: int
    agent: str


def basic(user: str = USER, password: str = PASSWORD) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class DockerRegistry:
    """`docker-registry serve` on a free loopback port, with its storage in a scratch folder.

    `authentication`: every request needs `USER` and `PASSWORD`. `proxy_of`: pull-through mode for that URL (such a
    registry refuses pushes), `proxy_login` its user and password there. `host`: the address to listen on; port,
    storage and log stay over `restart`.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        authentication: bool = False,
        proxy_of: str | None = None,
        proxy_login: tuple[str, str] | None = None,
    ) -> None:
        self.host = host
        self.port = free_port()
        self.folder = scratch_folder("registry")
        self.authentication = authentication
        self._log_offset = 0
        config = self.folder / "config.yml"
        config.write_text(json.dumps(self._config(proxy_of, proxy_login)))  # JSON is YAML too
        path = program("docker-registry") or "docker-registry"
        self.daemon = Daemon(
            "registry",
            [path, "serve", str(config)],
            folder=self.folder,
            ready=answers_http(host, self.port),
            extra_environment={"OTEL_TRACES_EXPORTER": "none"},
        )

    @property
    def authority(self) -> str:
        """host:port, as it stands in an image's name."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """`http://host:port`"""
        return f"http://{self.authority}"

    @property
    def storage(self) -> Path:
        """The folder where the registry keeps its blobs."""
        return self.folder / "storage"

    def start(self) -> Self:
        """Start, or do nothing when running; returns once it answers."""
        self.daemon.start()
        return self

    def stop(self) -> None:
        """Stop; what was pushed stays."""
        self.daemon.stop()

    def restart(self) -> None:
        """Stop and start on the same port with the same content."""
        self.stop()
        self.start()

    def push(self, image: Image | Index, repository: str, tag: str) -> str:
        """Upload as `repository:tag`; returns the manifest's digest."""
        return push(image, self.url, repository, tag, authorization=basic() if self.authentication else None)

    def requests(self) -> list[Request]:
        """The requests answered since the start or the last `forget_requests`, in the order of their ends.

        A line is written just after its answer: await the request that you expect with `wait_until`.
        """
        return list(self._read_log())

    def forget_requests(self) -> None:
        """Let `requests` begin here."""
        self._log_offset = self.daemon.output.stat().st_size

    def _read_log(self) -> Iterator[Request]:
        with self.daemon.output.open("rb") as log:
            log.seek(self._log_offset)
            for line in log:
                found = _ACCESS_LINE.match(line.decode(errors="replace").rstrip("\n"))
                if found:
                    method, target, status, sent, agent = found.groups()
                    yield Request(method, target, int(status), int(sent), agent)

    def _config(self, proxy_of: str | None, proxy_login: tuple[str, str] | None) -> dict[str, Any]:
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.storage)},
                "delete": {"enabled": True},
                "cache": {"blobdescriptor": "inmemory"},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": {"addr": self.authority, "secret": "tests"},
        }
        if self.authentication:
            passwords = self.folder / "htpasswd"
            passwords.write_text(_HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(passwords)}}
        if proxy_of is not None:
            user, password = proxy_login or ("", "")
            config["proxy"] = {"remoteurl": proxy_of, "username": user, "password": password}
        return config

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def push(
    image: Image | Index, registry_url: str, repository: str, tag: str, *, authorization: str | None = None
) -> str:
    """Upload blobs that are not there, then the manifests; the last one is tagged. Returns its digest.

    Raises `UploadError` with the registry's answer.
    """
    with _Uploads(registry_url, authorization) as uploads:
        for blob in image.blobs:
            uploads.blob(repository, blob)
        *children, top = image.manifests
        for child in children:
            uploads.manifest(repository, child, child.digest)
        uploads.manifest(repository, top, tag)
    return image.digest


class _Uploads:
    """One connection to a registry."""

    def __init__(self, registry_url: str, authorization: str | None) -> None:
        parts = urlsplit(registry_url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.netloc, timeout=60, blocksize=MIB)
        self._base = registry_url.rstrip("/")
        self._headers = {"Authorization": authorization} if authorization else {}

    def blob(self, repository: str, blob: Blob) -> None:
        """HEAD, then POST and one PUT if it is not there."""
        status, _ = self._ask("HEAD", f"{self._base}/v2/{repository}/blobs/{blob.digest}", (200, 404))
        if status == 200:
            return
        url = f"{self._base}/v2/{repository}/blobs/uploads/"
        _, headers = self._ask("POST", url, (202,))
        location = urljoin(url, headers["Location"])
        location += ("&" if urlsplit(location).query else "?") + urlencode({"digest": blob.digest})
        with blob.path.open("rb") as body:
            self._ask("PUT", location, (201,), body, "application/octet-stream", blob.size)

    def manifest(self, repository: str, manifest: Blob, reference: str) -> None:
        """PUT under a tag or a digest."""
        url = f"{self._base}/v2/{repository}/manifests/{reference}"
        _, headers = self._ask("PUT", url, (201,), manifest.read(), manifest.media_type, manifest.size)
        if headers["Docker-Content-Digest"] not in (None, manifest.digest):
            raise UploadError(f"{url} took {manifest.digest} for {headers['Docker-Content-Digest']}")

    def _ask(
        self,
        method: str,
        url: str,
        expected: tuple[int, ...],
        body: bytes | IO[bytes] | None = None,
        media_type: str | None = None,
        length: int = 0,
    ) -> tuple[int, http.client.HTTPMessage]:
        headers = {**self._headers, "Content-Length": str(length)}
        if media_type is not None:
            headers["Content-Type"] = media_type
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        self._connection.request(method, target, body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status not in expected:
            raise UploadError(f"{method} {url}: {answer.status} {text.decode(errors='replace')}")
        return answer.status, answer.headers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()
