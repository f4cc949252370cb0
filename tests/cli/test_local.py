import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import mirror
from mirror.cli import local, main, servers
from mirror.config.load import load
from mirror.config.show import describe
from mirror.errors import ConfigInvalid, DataBusy, Denied, ServerUnreachable
from tests.cli.conftest import Run
from tests.cli.scripted import Scripted, on_socket


class Application:
    """Stands in for `mirror.application`: real settings, no server."""

    def __init__(self) -> None:
        self.settings: Any = None
        self.flags: dict[str, object] = {}
        self.answer: int | Exception = 0
        self.busy = 0  # how often somebody else has the data
        self.joined = False  # whether others ask the one that this command is
        self.runs: list[str] = []
        self.script = Scripted()
        self.socket = Path()

    def load_settings(self, config: Path | None, flags: dict[str, object]) -> Any:
        self.flags = flags
        named = {name: text for name, text in os.environ.items() if name.startswith("MIRROR_") and "TEST" not in name}
        return load(config, {"HOME": "/home/me", **named}, flags)

    def describe_settings(self, settings: Any) -> str:
        return describe(settings)

    def serve(self, settings: Any) -> int:
        self.settings = settings
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @contextmanager
    def ephemeral(self, settings: Any, *, remark: Callable[[], None]) -> Iterator[Path]:
        self.settings = settings
        if self.joined:
            remark()
        if self.busy:
            self.busy -= 1
            raise DataBusy("the data directory is in use by process 7")
        self.runs.append("begun")
        try:
            with on_socket(self.socket, self.script):
                yield self.socket
        finally:
            self.runs.append("ended")


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Application:
    stand_in = Application()
    stand_in.socket = tmp_path / "own"
    stand_in.script["GET /offline"] = {"offline": False}
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


def test_a_check_tells_what_the_environment_says(
    application: Application, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"DATA": "/d", "REGISTRIES": '{"x.io": {"url": "https://x.io"}}', "UPSTREAM": "x"}.items():
        monkeypatch.setenv(f"MIRROR_{name}", value)
    assert application.settings is None
    first, second = local.check_config(None).splitlines()
    assert first.startswith("valid: no file, so the defaults (")
    assert second == "from the environment: MIRROR_DATA, MIRROR_REGISTRIES"
    assert capsys.readouterr().err == (
        "WARNING: environment MIRROR_UPSTREAM: no such setting, and left alone; the nearest is"
        " MIRROR_ON_UPSTREAM_GONE\n"
    )


def test_settings_are_shown(application: Application) -> None:
    assert application.settings is None
    assert 'listen = ["127.0.0.1:5000"]' in local.show_config(None)


def test_settings_that_are_wrong_are_not(application: Application, tmp_path: Path) -> None:
    assert application.settings is None
    for verb in (local.check_config, local.show_config):
        with pytest.raises(ConfigInvalid):
            verb(tmp_path / "gone.toml")


# --- a server for a verb ----------------------------------------------------------------------------------


def test_a_mirror_that_runs_is_asked_and_none_is_started(application: Application, api: Scripted, run: Run) -> None:
    api["GET /offline"] = {"offline": True}
    assert run("offline").stdout == "on\n"
    assert application.runs == []


def test_where_none_runs_one_is_started_and_ended(application: Application, run: Run) -> None:
    done = run("offline")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "off\n", "")
    assert application.runs == ["begun", "ended"]
    assert application.script.connections == 1


def test_it_ends_also_when_the_verb_fails(application: Application, run: Run) -> None:
    assert run("misses").exit_code == 4
    assert application.runs == ["begun", "ended"]


def test_one_that_was_named_is_never_replaced(application: Application, run: Run, tmp_path: Path) -> None:
    done = run("offline", "--server", str(tmp_path / "nobody"))
    assert (done.exit_code, application.runs) == (1, [])
    assert "no mirror answers at" in done.stderr


def test_status_starts_none(application: Application, run: Run) -> None:
    done = run("status")
    assert (done.exit_code, done.stdout, application.runs) == (1, "", [])
    assert done.stderr.startswith("mirror: no mirror runs here: tried ")


def test_of_two_that_start_at_the_same_time_one_joins_the_other(
    application: Application, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = Scripted()
    other["GET /offline"] = {"offline": True}
    application.busy = 99
    slept: list[float] = []
    with on_socket(tmp_path / "other", other):

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 3:  # now the other one listens
                (tmp_path / "run").mkdir()
                (tmp_path / "run" / "mirror.sock").symlink_to(tmp_path / "other")

        monkeypatch.setattr(time, "sleep", sleep)
        done = run("offline")
    assert (done.stdout, len(slept), application.runs) == ("on\n", 3, [])


def test_one_that_ends_just_now_is_waited_for(
    application: Application, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    application.busy = 2
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert run("offline").stdout == "off\n"
    assert application.runs == ["begun", "ended"]


def test_patience_ends_and_a_remark_tells_of_it(
    application: Application, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With advice for who waits for another command: "stop that one" would be none."""
    application.busy = 10_000
    now = iter(range(10_000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setenv("MIRROR_DATA", str(tmp_path))
    (tmp_path / "lock").write_text("7\n")
    done = run("offline")
    assert (done.exit_code, done.stdout) == (8, "")
    said = (
        f"process 7 has the data folder {tmp_path} and does not answer (yet); it starts, ends, or hangs."
        " Try again later, or set MIRROR_DATA to another folder\n"
    )
    assert done.stderr == f"waiting: {said}mirror: {said}"


def test_who_waits_for_commands_that_joined_is_told_so(application: Application, run: Run) -> None:
    application.joined = True
    done = run("offline")
    assert (done.exit_code, done.stdout) == (0, "off\n")
    assert done.stderr == "waiting for other commands, which use the mirror of this one; Ctrl-C breaks them off\n"


def test_with_mirror_data_the_command_is_the_mirror_of_that_folder(
    application: Application, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Breaks if it works on the images of another mirror that runs here."""
    (tmp_path / "run").mkdir()
    other = Scripted()
    other["GET /offline"] = {"offline": True}
    with on_socket(tmp_path / "run" / "mirror.sock", other):
        assert run("offline").stdout == "on\n"
        monkeypatch.setenv("MIRROR_DATA", str(tmp_path / "mine"))
        assert run("offline").stdout == "off\n"
    assert application.runs == ["begun", "ended"]
    assert application.settings.data == tmp_path / "mine"
    assert other.connections == 2  # it was looked for, and asked once


def test_what_would_end_with_the_command_is_not_switched(application: Application, run: Run) -> None:
    for state, value in (("on", "true"), ("off", "false")):
        done = run("offline", state)
        assert (done.exit_code, done.stdout, application.runs) == (1, "", [])
        assert done.stderr.startswith("mirror: nothing was switched: no mirror runs here: tried ")
        assert done.stderr.endswith(
            f"\nmirror: For commands without one the setting counts: offline = {value}, or MIRROR_OFFLINE={value}\n"
        )


def test_one_that_goes_away_between_being_found_and_asked(
    application: Application, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looked: list[int] = []
    found = servers.find

    def find(server: str | None, environ: Any) -> servers.Server:
        looked.append(1)
        return servers.Server("x", path=tmp_path / "gone") if len(looked) == 1 else found(server, environ)

    monkeypatch.setattr(servers, "find", find)
    assert run("offline").stdout == "off\n"
    assert application.runs == ["begun", "ended"]


def test_several_that_run_are_no_reason_to_start_another(
    application: Application, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(*_: object) -> servers.Server:
        raise ServerUnreachable("several mirrors run here")

    monkeypatch.setattr(servers, "find", find)
    done = run("offline")
    assert (done.exit_code, application.runs) == (1, [])
    assert done.stderr == "mirror: several mirrors run here\n"


def test_a_mirror_that_this_user_may_not_use_is_not_replaced_without_a_word(
    application: Application, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(servers, "_failure", lambda _: PermissionError(13, "Permission denied"))
    done = run("offline")
    assert (done.exit_code, application.runs) == (Denied.exit_code, [])
    assert f"you may not use its socket {tmp_path}/run/mirror.sock: use sudo, " in done.stderr
    monkeypatch.setenv("MIRROR_DATA", str(tmp_path / "own-data"))
    assert run("offline").stdout == "off\n"


def test_roots_command_does_not_take_the_data_of_a_service_that_is_stopped(
    application: Application, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What root writes there the service could not open any more."""
    servers.SYSTEM_DATA.mkdir()
    other = servers.SYSTEM_DATA.stat().st_uid + 1
    monkeypatch.setattr(local, "_owner", lambda _: other)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    done = run("offline")
    assert (done.exit_code, application.runs) == (1, [])
    assert done.stderr.endswith("start it: systemctl start mirror\n")
    monkeypatch.setattr(local, "_owner", lambda _: 0)
    assert run("offline").stdout == "off\n"


def test_settings_that_are_wrong_stop_a_verb_that_needs_a_server(
    application: Application, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> Any:
        raise ConfigInvalid("mirror.toml: x: no such key")

    monkeypatch.setattr(application, "load_settings", wrong)
    done = run("offline")
    assert (done.exit_code, done.stderr) == (2, "mirror: mirror.toml: x: no such key\n")
