"""`make install` and `make uninstall`, always below a folder of the test's own.

One installation is real. Where the subject is what happens around it (systemd, a version that fails), Python and
systemctl are played by scripts, and what they were asked is looked at.
"""

import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installed import ROOT, Installed, make
from tests.support.processes import wait_until

SCRIPT = ROOT / "systemd" / "install.sh"

# --- for real ---------------------------------------------------------------------------------------------


def test_the_command_runs(installed: Installed) -> None:
    assert installed.run("--version") == "mirror 0.1.0\n"
    assert os.readlink(installed.command) == f"{installed.opt}/current/bin/mirror"
    assert "valid: " in installed.run("config", "check", "--config", str(installed.settings))


def test_what_is_installed_is_what_is_pinned(installed: Installed) -> None:
    python = installed.opt / "current" / "bin" / "python"
    frozen = subprocess.run(
        [python, "-m", "pip", "freeze", "--exclude", "layer-mirror"], capture_output=True, text=True, check=True
    ).stdout.split()
    pins = (ROOT / "constraints.txt").read_text().lower().replace("_", "-").split()
    assert len(frozen) > 10
    assert [pin for pin in frozen if pin.lower().replace("_", "-") not in pins] == []


def test_every_file_of_the_project_is_there(installed: Installed) -> None:
    (package,) = installed.opt.glob("current/lib/python3*/site-packages/mirror")
    wanted = {path.relative_to(ROOT) for path in (ROOT / "mirror").rglob("*") if path.suffix in (".py", ".sql")}
    assert {path for path in wanted if not (package.parent / path).is_file()} == set()


def test_the_services_user_can_read_all_of_it_and_write_nothing(installed: Installed) -> None:
    """It was installed with root's umask at 077. Without `umask 022` in the script the service would not start."""
    modes = [path.lstat().st_mode for path in installed.opt.rglob("*") if not path.is_symlink()]
    assert len(modes) > 1000
    assert all(mode & stat.S_IROTH and not mode & stat.S_IWOTH for mode in modes)
    assert all(mode & stat.S_IXOTH for mode in modes if stat.S_ISDIR(mode))


def test_the_settings_are_the_example_and_closed_to_strangers(installed: Installed) -> None:
    assert installed.settings.read_text() == (ROOT / "config" / "mirror.example.toml").read_text()
    assert stat.S_IMODE(installed.settings.stat().st_mode) == 0o640
    assert stat.S_IMODE(installed.settings.parent.stat().st_mode) == 0o1775


def test_the_unit_is_what_systemd_understands(installed: Installed, tmp_path: Path) -> None:
    unit = installed.unit.read_text()
    assert unit == (ROOT / "systemd" / "mirror.service").read_text()
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze")
    copy = tmp_path / "mirror.service"
    copy.write_text(unit.replace("/usr/local/bin/mirror", str(installed.command)))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "mirror.service" in line] == []


# --- around it --------------------------------------------------------------------------------------------

_PYTHON = """#!/bin/sh
case "$*" in
*version_info*) exit 0 ;;
*'import ensurepip'*) exit 0 ;;
*base_prefix*) echo /usr ;;
--version) echo Python 3.11.0 ;;
'-m venv '*)
    echo "venv $3" >>'{asked}'
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python" ;;
*'pip'*)
    for word; do source=$word; done
    {pip}
    sed 's/x/x/' "$source/mirror/version" >"${{0%/*}}/mirror.version"
    cp '{folder}/mirror' "${{0%/*}}/mirror" ;;
esac
"""

_MIRROR = """#!/bin/sh
case "$1 $2" in
'--version ') echo "mirror $(cat "$(readlink -f "$0").version")" ;;
'config check')
    [ "$(cat "$(readlink -f "$0").version")" = broken ] && { echo 'ImportError: x'; exit 1; }
    grep -q ^wrong "$4" && { echo "mirror: $4: wrong: no such key"; echo 'mirror: more'; exit 2; }
    exit 0 ;;
esac
"""

_SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >>'{asked}'
case $1 in
is-active) [ -e '{folder}/active' ] ;;
is-failed) exit 1 ;;
restart)
    version=$(cat '{opt}/current/bin/mirror.version')
    if [ "$version" = "$(cat '{folder}/bad' 2>/dev/null)" ]; then
        rm -f '{folder}/active'
        echo 'Job for mirror.service failed.' >&2
        exit 1
    fi
    touch '{folder}/active' ;;
disable) rm -f '{folder}/active' ;;
esac
"""


class System:
    """A folder to install into, with a played Python and a played systemd, and a source of a version of our choice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "programs"
        self.source = folder / "source"
        self.place = Installed(folder / "root")
        self._asked = self.folder / "asked"
        for path in ("systemd", ".ci", "config"):
            shutil.copytree(ROOT / path, self.source / path)
        for path in ("Makefile", "README.md", "LICENSE", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / path, self.source)
        (self.source / "mirror").mkdir()
        self.folder.mkdir()
        self.place.folder.mkdir()
        self.version("1")
        self.python()
        self._program("mirror", _MIRROR)
        self._program("systemctl", _SYSTEMCTL.format(asked=self._asked, folder=self.folder, opt=self.place.opt))

    def version(self, version: str) -> None:
        """What is installed next."""
        (self.source / "mirror" / "version").write_text(version)
        unit = self.source / "systemd" / "mirror.service"
        unit.write_text(f"# of version {version}\n" + (ROOT / "systemd" / "mirror.service").read_text())

    def python(self, pip: str = ":") -> None:
        self._program("python", _PYTHON.format(asked=self._asked, folder=self.folder, pip=pip))

    def break_version(self, version: str) -> None:
        """systemd cannot start this one."""
        (self.folder / "bad").write_text(version)

    def stop(self) -> None:
        (self.folder / "active").unlink()

    def make(self, target: str, *, systemd: bool = True) -> subprocess.CompletedProcess[str]:
        self._asked.write_text("")
        variables = {"SYSTEMCTL": str(self.folder / "systemctl")} if systemd else {}
        return make(target, self.place.folder, self.source, PYTHON=str(self.folder / "python"), **variables)

    def install(self, version: str) -> None:
        """One that goes well."""
        self.version(version)
        done = self.make("install")
        assert done.returncode == 0, done.stderr

    def asked(self) -> list[str]:
        """What systemctl was asked for, questions left out."""
        words = [line.removeprefix("systemctl ") for line in self._asked.read_text().splitlines()]
        return [line for line in words if not line.startswith(("is-", "venv "))]

    def runs(self) -> str:
        """What the command says, and that the unit is the one that came with it."""
        said = self.place.run("--version").strip()
        assert self.place.unit.read_text().startswith(f"# of version {said.removeprefix('mirror ')}\n")
        return said

    def _program(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of the failure: without what went well before, and without make's own last word."""
    return [line for line in done.stderr.splitlines() if not re.match(r"making |make: \*\*\*", line)]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    yield System(tmp_path)
    left = [name for name in os.listdir(tmp_path / "tmp") if name] if (tmp_path / "tmp").exists() else []
    assert left == []


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))


def test_the_first_time_the_service_is_enabled_and_started(system: System) -> None:
    done = system.make("install")
    assert (done.returncode, said(done)) == (0, [])
    assert system.runs() == "mirror 1"
    assert system.asked() == ["daemon-reload", "enable mirror", "restart mirror"]
    assert done.stdout.startswith(f"mirror 1 is installed: {system.place.command}\n")
    assert str(system.place.settings) in done.stdout
    assert "It runs." in done.stdout


def test_without_systemd_it_says_how_to_start(system: System) -> None:
    done = system.make("install", systemd=False)
    assert done.returncode == 0
    assert system.asked() == []
    assert done.stdout.splitlines()[-1] == "No service is started here; type: mirror serve"


def test_a_newer_one_takes_its_place_and_keeps_settings_and_data(system: System) -> None:
    system.install("1")
    system.place.settings.write_text("offline = true\n")
    blob = system.place.folder / "var/lib/mirror/blob"
    blob.parent.mkdir(parents=True)
    blob.write_text("data")
    system.install("2")
    assert system.runs() == "mirror 2"
    assert system.asked() == ["daemon-reload", "restart mirror"]
    assert len(system.place.environments()) == 1
    assert (system.place.settings.read_text(), blob.read_text()) == ("offline = true\n", "data")


def test_what_somebody_stopped_stays_stopped(system: System) -> None:
    system.install("1")
    system.stop()
    system.install("2")
    assert system.asked() == ["daemon-reload"]
    assert system.runs() == "mirror 2"


def test_a_build_that_fails_leaves_the_old_one_at_work(system: System) -> None:
    """Building in place, or switching before the build is done, would break this."""
    system.install("1")
    system.version("2")
    system.python(pip="echo 'ERROR: No matching distribution found for aiohttp'; echo '[notice] x'; exit 1")
    done = system.make("install")
    assert done.returncode == 2
    assert said(done) == [
        "make install: the installation failed, and what was there before is as it was:"
        " ERROR: No matching distribution found for aiohttp"
    ]
    assert (system.runs(), system.asked(), len(system.place.environments())) == ("mirror 1", [], 1)


def test_a_version_that_does_not_start_gives_way_to_the_old_one(system: System) -> None:
    system.install("1")
    system.version("2")
    system.break_version("2")
    done = system.make("install")
    assert done.returncode == 2
    (line,) = said(done)
    assert line.startswith("make install: the new version does not start, the one before runs again: Job for mirror")
    assert system.runs() == "mirror 1"
    assert system.asked() == ["daemon-reload", "restart mirror", "daemon-reload", "restart mirror"]
    assert len(system.place.environments()) == 1


def test_a_first_version_that_does_not_start_says_where_to_look(system: System) -> None:
    system.break_version("1")
    done = system.make("install")
    assert done.returncode == 2
    (line,) = said(done)
    assert line.startswith("make install: it is installed and does not start: Job for mirror.service failed.")
    assert line.endswith("journalctl -u mirror -n 20")


def test_settings_that_the_new_version_refuses_are_found_before_the_old_one_is_stopped(system: System) -> None:
    system.install("1")
    system.place.settings.write_text("wrong = true\n")
    system.version("2")
    done = system.make("install")
    assert said(done) == [
        f"make install: the new version cannot use the settings: {system.place.settings}: wrong: no such key;"
        " nothing was changed"
    ]
    assert (system.runs(), system.asked(), len(system.place.environments())) == ("mirror 1", [], 1)


def test_a_version_that_does_not_even_run_is_found_before_the_old_one_is_stopped(system: System) -> None:
    system.install("1")
    system.version("broken")
    done = system.make("install")
    assert said(done) == ["make install: the new version does not run: ImportError: x; nothing was changed"]
    assert (system.runs(), system.asked(), len(system.place.environments())) == ("mirror 1", [], 1)


def test_a_command_of_somebody_else_is_left_alone(system: System) -> None:
    system.place.command.parent.mkdir(parents=True)
    system.place.command.write_text("another")
    done = system.make("install")
    assert said(done) == [f"make install: {system.place.command} is there and not from here; move it away first"]
    assert system.place.command.read_text() == "another"
    assert system.place.environments() == []


def test_what_a_killed_one_left_is_swept(system: System) -> None:
    (system.place.opt / "venv-20200101-000000-1" / "bin").mkdir(parents=True)
    system.install("1")
    assert "venv-20200101-000000-1" not in system.place.environments()


def test_one_that_is_interrupted_leaves_nothing(system: System) -> None:
    system.install("1")
    system.version("2")
    system.python(pip="sleep 60")
    running = subprocess.Popen(
        [system.source / "systemd" / "install.sh", "install"],
        env={**os.environ, "DESTDIR": str(system.place.folder), "PYTHON": str(system.folder / "python")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: len(system.place.environments()) == 2, 30, "the build")
    time.sleep(0.1)
    os.killpg(running.pid, signal.SIGTERM)
    assert running.wait(30) == 143
    assert (system.runs(), len(system.place.environments())) == ("mirror 1", 1)


@pytest.mark.skipif(shutil.which("flock") is None, reason="no flock command")
def test_two_at_once_are_one_too_many(system: System) -> None:
    system.place.opt.mkdir(parents=True)
    with subprocess.Popen(["flock", system.place.opt / ".lock", "sleep", "60"], start_new_session=True) as holding:
        try:
            wait_until(lambda: (system.place.opt / ".lock").exists(), 30, "the lock")
            time.sleep(0.2)
            done = system.make("install")
        finally:
            os.killpg(holding.pid, signal.SIGKILL)
    assert said(done) == ["make install: another make install or uninstall is at work"]


@pytest.mark.parametrize("target", ["install", "uninstall"])
def test_who_is_not_root_is_told_what_to_type(tmp_path: Path, target: str) -> None:
    """No program is at hand that could change anything, should the script go on."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "id").write_text("#!/bin/sh\necho 1000\n")
    (programs / "id").chmod(0o755)
    (programs / "dirname").symlink_to(shutil.which("dirname") or "dirname")
    done = subprocess.run(
        ["/bin/sh", SCRIPT, target], env={"PATH": str(programs)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"make {target}: only root may do this; type: sudo make {target}\n"


def test_a_python_in_somebodys_home_will_not_do(tmp_path: Path) -> None:
    """The service has ProtectHome=yes. A link of the environment into /root would end it at its start."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\ncase $2 in *base_prefix*) echo /root/.pyenv/versions/3.13 ;; esac\n")
    python.chmod(0o755)
    shell = f'. "{ROOT}/.ci/python"; {_function("reachable")} DESTDIR=; need_python "{tmp_path}/log" reachable'
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", shell],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "The Python found here lies in somebody's home, where no service may look."
        " On Debian or Ubuntu type: sudo apt-get install python3 python3-venv\n"
    )


def _function(name: str) -> str:
    found = re.search(rf"^{name}\(\) \{{\n.*?^\}}\n", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[0]


# --- uninstall --------------------------------------------------------------------------------------------


def test_uninstall_removes_what_install_made_and_keeps_the_rest(system: System) -> None:
    system.install("1")
    (system.place.folder / "var/lib/mirror").mkdir(parents=True)
    done = system.make("uninstall")
    assert (done.returncode, said(done)) == (0, [])
    assert system.asked() == ["disable --now mirror", "daemon-reload"]
    files = [path for path in system.place.folder.rglob("*") if not path.is_dir()]
    assert files == [system.place.settings]
    assert not system.place.opt.exists()
    assert str(system.place.folder / "var/lib/mirror") in done.stdout
    assert str(system.place.settings.parent) in done.stdout
    assert system.make("uninstall").stdout == "There is nothing to remove.\n"


def test_uninstall_leaves_what_others_put_there(system: System) -> None:
    system.install("1")
    (system.place.opt / "notes").write_text("mine")
    system.place.command.unlink()
    system.place.command.write_text("another")
    done = system.make("uninstall")
    assert done.returncode == 0
    assert said(done) == [f"make uninstall: {system.place.opt} holds other things, and stays"]
    assert (system.place.opt / "notes").read_text() == "mine"
    assert system.place.command.read_text() == "another"


def test_installing_again_finds_the_settings_of_before(system: System) -> None:
    system.install("1")
    system.place.settings.write_text("offline = true\n")
    system.make("uninstall")
    system.install("2")
    assert system.place.settings.read_text() == "offline = true\n"
    assert system.asked() == ["daemon-reload", "enable mirror", "restart mirror"]


def test_the_script_is_sound_shell() -> None:
    for script in (SCRIPT, ROOT / ".ci" / "python", ROOT / ".ci" / "venv"):
        subprocess.run(["/bin/sh", "-n", script], check=True)
