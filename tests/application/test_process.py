"""The mirror as a process: its settings, and what it tells systemd."""

import os
import re
import socket
from pathlib import Path

import pytest

from mirror import application
from mirror.application import load_settings
from mirror.config.model import Settings
from tests.support.mirror import MirrorProcess
from tests.support.processes import answers_tcp

NOBODY = "http://127.0.0.1:9"


def test_settings_are_loaded_and_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MIRROR_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MIRROR_OFFLINE", "true")
    file = tmp_path / "mirror.toml"
    file.write_text('on_upstream_gone = "follow"\n')
    settings = load_settings(file, {"data": tmp_path / "d"})
    assert isinstance(settings, Settings)
    assert (settings.offline, settings.on_upstream_gone, settings.data) == (True, "follow", tmp_path / "d")
    assert re.search(r"^on_upstream_gone = \"follow\"", application.describe_settings(settings), re.MULTILINE)


def test_systemd_is_told_when_it_is_ready_and_when_it_ends(tmp_path: Path) -> None:
    """Without it `systemctl restart` (and `make install`) would wait until it times out."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(30)
        registries = {"docker.io": NOBODY}
        with MirrorProcess(tmp_path / "m", registries, environment={"NOTIFY_SOCKET": str(address)}) as mirror:
            assert systemd.recv(100) == b"READY=1"
            assert answers_tcp(mirror.host, mirror.port)()
        assert systemd.recv(100) == b"STOPPING=1"
