"""Every verb talks to a scripted API, and to nothing else on this machine."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mirror.cli import main, servers
from tests.cli.scripted import Scripted, on_socket

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def nothing_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No mirror, no settings and no logins but those that a test makes."""
    for name in ("MIRROR_SERVER", "MIRROR_DATA", "DOCKER_CONFIG", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "NO_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(servers, "SYSTEM_SOCKET", tmp_path / "run" / "mirror.sock")
    monkeypatch.setattr(servers, "SYSTEM_DATA", tmp_path / "system")


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """The mirror that verbs find."""
    script = Scripted()
    with on_socket(tmp_path / "api", script):
        monkeypatch.setenv("MIRROR_SERVER", f"unix://{tmp_path}/api")
        yield script


@pytest.fixture
def run() -> Run:
    """`run("images", "-q")` → exit code, stdout and stderr apart."""

    def invoke(*arguments: str, stdin: str | bytes | None = None) -> Any:
        done = CliRunner().invoke(main, list(arguments), input=stdin, prog_name="mirror")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return invoke
