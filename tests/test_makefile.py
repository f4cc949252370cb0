"""What people type first: `make …`, on a machine that may lack something."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORDS = ["run", "demo", "test", "lint", "bench"]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("variables", "flags"),
    [
        ([], ""),
        (["LISTEN=0.0.0.0:5000"], "--listen '0.0.0.0:5000'"),
        (["LISTEN=127.0.0.1:1,[::1]:1"], "--listen '127.0.0.1:1' --listen '[::1]:1'"),
        (["DATA=/my data", "CONFIG=x.toml"], "--config 'x.toml' --data '/my data'"),
    ],
)
def test_run_hands_on_what_was_given(variables: list[str], flags: str) -> None:
    command = make("-n", "run", *variables).stdout.splitlines()[-1]
    assert " ".join(command.split()) == f"exec .venv/bin/mirror serve {flags}".rstrip()


def test_help_names_the_targets() -> None:
    shown = make().stdout
    assert all(f"make {word} " in shown for word in WORDS)
    assert [line for line in shown.splitlines() if not line.startswith("make ")] == []


@pytest.fixture
def bare_machine(tmp_path: Path) -> Path:
    """A folder of programs in which no Python is, and nobody is root."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "id").write_text("#!/bin/sh\necho 1000\n")
    (programs / "id").chmod(0o755)
    for name in ("constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return programs


def set_up(programs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(ROOT / ".ci" / "venv")],
        cwd=programs.parent,
        env={"PATH": str(programs), "PYTHON": "python3"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def python(programs: Path, *, new_enough: bool) -> None:
    (programs / "python3").write_text(
        f"#!/bin/sh\ncase $2 in\n*version_info*) exit {0 if new_enough else 1} ;;\n*) exit 1 ;;\nesac\n"
    )
    (programs / "python3").chmod(0o755)


def test_without_python_one_line_says_what_to_type(bare_machine: Path) -> None:
    done = set_up(bare_machine)
    assert done.returncode == 1
    assert done.stderr == (
        "Python 3.11 or later is missing. On Debian or Ubuntu type: sudo apt-get install python3 python3-venv\n"
    )


def test_an_old_python_is_none(bare_machine: Path) -> None:
    python(bare_machine, new_enough=False)
    assert "Python 3.11 or later is missing" in set_up(bare_machine).stderr


def test_without_the_venv_module_one_line_says_what_to_type(bare_machine: Path) -> None:
    python(bare_machine, new_enough=True)
    done = set_up(bare_machine)
    assert done.returncode == 1
    assert done.stderr == (
        "Python's venv module is missing. On Debian or Ubuntu type: sudo apt-get install python3-venv\n"
    )
