from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import mirror
from mirror.cli import local, main
from mirror.config.load import load
from mirror.config.show import describe
from mirror.errors import ConfigInvalid, DataBusy


class Application:
    """Stands in for `mirror.application`: real settings, no server."""

    def __init__(self) -> None:
        self.settings: Any = None
        self.flags: dict[str, object] = {}
        self.answer: int | Exception = 0

    def load_settings(self, config: Path | None, flags: dict[str, object]) -> Any:
        self.flags = flags
        return load(config, {"HOME": "/home/me"}, flags)

    def describe_settings(self, settings: Any) -> str:
        return describe(settings)

    def serve(self, settings: Any) -> int:
        self.settings = settings
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Application:
    stand_in = Application()
    monkeypatch.setattr("mirror.config.load.SYSTEM_FILE", tmp_path / "none.toml")
    monkeypatch.setattr(mirror, "application", stand_in, raising=False)
    return stand_in


def serve(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["serve", *arguments])


def test_flags_become_settings(application: Application, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text('on_upstream_gone = "follow"')
    done = serve(
        *("--config", f"{tmp_path}/f.toml", "--data", f"{tmp_path}/d", "--listen", "127.0.0.1:1"),
        *("--listen", "[::1]:1", "--offline", "--log-format", "json", "--access-log", "-"),
    )
    assert done.exit_code == 0, done.output
    settings = application.settings
    assert settings.data == tmp_path / "d"
    assert settings.listen == ("127.0.0.1:1", "[::1]:1")
    assert settings.offline
    assert settings.log_format == "json"
    assert settings.access_log == Path("-")
    assert settings.on_upstream_gone == "follow"


def test_flags_that_are_not_given_decide_nothing(application: Application) -> None:
    assert serve().exit_code == 0
    assert {value for value in application.flags.values() if value is not None} == {()}


@pytest.mark.parametrize(("answer", "code"), [(0, 0), (3, 3), (DataBusy("busy: stop the other one"), 8)])
def test_the_servers_end_is_the_exit_code(application: Application, answer: int | Exception, code: int) -> None:
    application.answer = answer
    done = serve()
    assert done.exit_code == code
    assert done.stderr == ("mirror: busy: stop the other one\n" if code == 8 else "")


def test_wrong_settings_stop_the_start(application: Application) -> None:
    done = serve("--listen", "5000", "--data", "")
    assert done.exit_code == 2
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["--data", "--listen"]
    assert application.settings is None


def test_valid_settings_are_counted(application: Application, tmp_path: Path) -> None:
    assert application.settings is None
    assert local.check_config(None).startswith("valid: no file, so the defaults (")
    (tmp_path / "f.toml").touch()
    assert local.check_config(tmp_path / "f.toml").startswith(f"valid: {tmp_path}/f.toml (")


def test_settings_are_shown(application: Application) -> None:
    assert application.settings is None
    assert 'listen = ["127.0.0.1:5000"]' in local.show_config(None)


def test_settings_that_are_wrong_are_not(application: Application, tmp_path: Path) -> None:
    assert application.settings is None
    for verb in (local.check_config, local.show_config):
        with pytest.raises(ConfigInvalid):
            verb(tmp_path / "gone.toml")
