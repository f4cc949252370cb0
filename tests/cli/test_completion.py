import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.samples import image
from tests.cli.scripted import Scripted, refusal
from tests.cli.terminal import Session
from tests.support.installed import Installed

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("shell", "holds"),
    [
        ("bash", "complete -o nosort -F _mirror_completion mirror"),
        ("zsh", "#compdef mirror"),
        ("fish", "complete --no-files --command mirror"),
    ],
)
def test_each_shell_has_its_script(run: Run, shell: str, holds: str) -> None:
    done = run("completion", shell)
    assert (done.exit_code, done.stderr) == (0, "")
    assert holds in done.stdout


def test_another_shell_has_none(run: Run) -> None:
    assert run("completion", "tcsh").exit_code == 2


def completed(*words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "mirror"],
        cwd=ROOT,
        env={
            **os.environ,
            "_MIRROR_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("mirror", *words)),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_verbs_and_options_are_completed() -> None:
    assert completed("ima") == ["images", "image"]
    assert completed("images", "--no") == ["--no-trunc"]
    assert completed("offline", "o") == ["on", "off"]
    assert completed("user", "re") == ["remove"]


def test_names_of_held_images_are_completed(api: Scripted) -> None:
    api["GET /images"] = {"images": [image(), image(name="alp\x1b"), image(tag=None), image(name="busybox")]}
    assert completed("rmi", "alp") == ["alpine:3.20"]
    assert completed("inspect", "--format", "x", "b") == ["busybox:3.20"]
    assert completed("tag", "busy") == ["busybox:3.20"]
    assert completed("tags", "") == ["alpine", "busybox"]
    api["GET /images"] = refusal(403, "no", 5)
    assert completed("rmi", "alp") == []


def test_a_mirror_that_is_slow_does_not_hold_the_shell_up(api: Scripted) -> None:
    api["GET /images"] = [5.0]
    assert completed("rmi", "alp") == []


def test_where_no_mirror_runs_no_name_is_completed_and_none_is_started(tmp_path: Path) -> None:
    server = str(tmp_path / "nobody")
    assert completed("rmi", "--server", server, "a") == []


# --- in real shells, with the installed command -------------------------------------------------------------


def has(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"no {shell} here")


@pytest.fixture
def shell(installed: Installed, api: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """The installed command is the first that a shell finds; the mirror it finds holds these images."""
    monkeypatch.setenv("PATH", f"{installed.command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("ZDOTDIR", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    names = [("alpine", "3.19"), ("alpine", "3.20"), ("team/app", "1")]
    api["GET /images"] = {"images": [image(name=name, tag=tag) for name, tag in names]}
    api["GET /queue"] = {"pushes": [{"id": 12}, {"id": 17}, {"id": 2}]}
    return api


_ASK_BASH = """
source <(mirror completion bash)
COMP_LINE=$1 COMP_POINT=${#1}
_mirror_completion mirror && printf '%s\\n' "${COMPREPLY[@]}"
"""


@has("bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mirror statu", ["status"]),
        ("mirror image p", ["prune", "pull", "push"]),
        ("mirror queue drop 1", ["12", "17"]),
        ("mirror images --no", ["--no-trunc"]),
        ("mirror rmi a", ["alpine:3.19", "alpine:3.20"]),
        ("mirror rmi alpine:3.2", ["3.20"]),
        ("mirror rmi team/app:1 alpine:", ["3.19", "3.20"]),
        ("mirror tags ", ["alpine", "team/app"]),
    ],
)
def test_bash_offers(shell: Scripted, line: str, offered: list[str]) -> None:
    """`alpine:3.2` is three words to bash, and one to us: with click's own script nothing is offered."""
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", _ASK_BASH, "bash", line],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout.splitlines(), done.stderr) == (offered, "")


@has("bash")
def test_a_person_at_bash_gets_verbs_and_names_by_the_tabulator(shell: Scripted) -> None:
    command = ["bash", "--norc", "--noprofile", "-i"]
    with Session(command=command, environ={"PS1": "bash> "}, columns=100) as session:
        session.until("bash>")
        session.write("source <(mirror completion bash); echo loa''ded\n")
        session.until("loaded")
        session.write("mirror inspec\ta\t2\t")
        session.until("mirror inspect alpine:3.20")
        session.write("\x15exit\n")
        session.end()


@has("zsh")
def test_zsh_offers(shell: Scripted) -> None:
    with Session(command=["zsh", "-i", "-f"], columns=100) as session:
        session.write("PS1='> '; autoload -U compinit; compinit -D; source <(mirror completion zsh); echo loa''ded\n")
        session.until("loaded")
        session.write("mirror inspec\ta\t2\t")
        session.until("mirror inspect alpine:3.20")
        session.write("\x15exit\n")
        session.end()


@has("fish")
def test_fish_offers(shell: Scripted) -> None:
    ask = "mirror completion fish | source; complete -C 'mirror inspec'; complete -C 'mirror inspect alpine:3.2'"
    done = subprocess.run(["fish", "--no-config", "-c", ask], capture_output=True, text=True, timeout=60, check=True)
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == ["inspect", "alpine:3.20"]
