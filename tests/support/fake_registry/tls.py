"""Certificates made on the spot by the openssl program: an authority of the test's own, good and bad servers."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """A certificate authority in a folder. `certificate` is what a client trusts it by (`ca_file`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._issued = 0
        self.certificate = folder / "ca.pem"
        _openssl(
            "req", "-x509", *_KEY, "-days", "2", "-subj", "/CN=mirror tests",
            "-keyout", folder / "ca.key", "-out", self.certificate,
        )  # fmt: skip

    def server(self, *names: str, days: int = 1) -> ssl.SSLContext:
        """A server's context for `names` (hosts or addresses; localhost and 127.0.0.1 without any).

        It has expired where `days` is negative.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files(*names, days=days))
        return context

    def files(self, *names: str, days: int = 1) -> tuple[Path, Path]:
        """The same server's certificate and key, as files."""
        self._issued += 1
        base = self._folder / f"server{self._issued}"
        key, request, certificate = (base.with_suffix(suffix) for suffix in (".key", ".csr", ".pem"))
        extensions = base.with_suffix(".ext")
        extensions.write_text(f"subjectAltName={','.join(_alternative(name) for name in names or _LOCAL)}\n")
        _openssl("req", *_KEY, "-subj", "/CN=server", "-keyout", key, "-out", request)
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._folder / "ca.key",
            "-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
        return certificate, key


_LOCAL: Sequence[str] = ("localhost", "127.0.0.1")


def _alternative(name: str) -> str:
    return f"IP:{name}" if name.replace(".", "").isdigit() or ":" in name else f"DNS:{name}"


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)
