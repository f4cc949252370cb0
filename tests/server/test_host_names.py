"""Names by which the API may be asked: the settings' and this machine's own, and nobody else's."""

import socket
from pathlib import Path

import pytest

from mirror.server.host_names import HostNames, own_names


@pytest.mark.parametrize(
    "host", ["mirror.example.com", "MIRROR.example.com:5000", "mirror.example.com.", "box", "box:80"]
)
def test_known(host: str) -> None:
    assert HostNames(["Mirror.Example.com.", "box"])(host)


@pytest.mark.parametrize("host", [
    "", "example.com", "evil.mirror.example.com", "mirror.example.com.evil", "mirror.example.com:x", "box:80:80", ":80",
    "box..", "mirror.example.com@evil",
])  # fmt: skip
def test_unknown(host: str) -> None:
    assert not HostNames(["mirror.example.com", "box"])(host)


def test_this_machines_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Box")
    file = tmp_path / "hosts"
    assert own_names(file) == {"box"}
    file.write_text(
        "127.0.0.1 localhost\n127.0.1.1\tbox.example.com box  # this one\n"
        "10.0.0.7 other.example.com # box\n\n# box x\n10.1\n"
    )
    assert own_names(file) == {"box", "box.example.com"}


def test_the_real_one() -> None:
    assert socket.gethostname().lower() in own_names()
