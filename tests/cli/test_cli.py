"""The group: help, exit codes, and what importing it costs."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mirror import __version__, errors
from mirror.cli import VERBS, main
from tests.cli.samples import detail, digest
from tests.cli.scripted import Raw, Scripted
from tests.cli.test_help import LEAST
from tests.cli.test_pull import ONE

ROOT = Path(__file__).parents[2]
HEAVY = {
    *(
        "aiohttp",
        "pydantic",
        "aiosqlite",
        "uvloop",
        "sqlite3",
        "asyncio",
        "prometheus_client",
        "rich",
        "publicsuffixlist",
    ),
    *("mirror.application", "mirror.server", "mirror.operations", "mirror.cache", "mirror.store", "mirror.upstream"),
    *("mirror.config", "mirror.tasks", "mirror.clock", "mirror.logs"),
}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        *([verb, "--help"] for verb in VERBS),
        ["config", "check", "--help"],
        ["status", "--server", "unix:///nowhere"],
        *(words.split() for words in LEAST if "stdin" not in words),
        ["pull", "alpine", "--progress", "tty"],
    ],
    ids=" ".join,
)
def test_a_client_verb_imports_no_server(arguments: list[str], api: Scripted) -> None:
    api["GET /images"] = {"images": []}
    api["POST /pull"] = ONE
    script = (
        "import sys\nfrom mirror.cli import main\n"
        f"try: main({arguments!r}, prog_name='mirror')\nexcept SystemExit: pass\n"
        "print('MODULES', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    modules = set(done.stdout.splitlines()[-1].split()[1:])
    assert "mirror.cli" in modules
    assert modules & HEAVY == set()


def test_a_verb_is_imported_when_it_is_used() -> None:
    script = "import sys, mirror.cli\nprint(*sorted(name for name in sys.modules if name.startswith('mirror')))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["mirror", "mirror.cli", "mirror.cli.groups", "mirror.cli.output", "mirror.errors"]


def test_help_lists_every_verb_with_a_sentence() -> None:
    shown = CliRunner().invoke(main, ["--help"])
    assert shown.exit_code == 0
    for verb in VERBS:
        assert any(line.split()[:1] == [verb] and line.endswith(".") for line in shown.output.splitlines()), verb


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"mirror {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["srve"], "No such command 'srve'"),
        (["serve", "--nothing"], "No such option '--nothing'"),
        (["status", "--format", "yaml"], "'yaml' is not one of 'table', 'json'"),
        (["serve", "--log-format", "xml"], "'xml' is not one of 'text', 'json'"),
        (["config", "chek"], "No such command 'chek'"),
    ],
)
def test_usage_errors_exit_2(arguments: list[str], says: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.MirrorError("x"), 1),
        (errors.ServerUnreachable("x"), 1),
        (errors.ConfigInvalid("x"), 2),
        (errors.NameUnknown("x"), 4),
        (errors.Denied("x"), 5),
        (errors.TooManyRequests("x"), 6),
        (errors.UpstreamDigestMismatch("x", registry="docker.io"), 7),
        (errors.DataBusy("x"), 8),
        (errors.Offline("x"), 9),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes_are_those_of_the_readme(error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr("mirror.cli.status.status", failing)
    done = CliRunner().invoke(main, ["status"])
    assert done.exit_code == code
    assert done.stdout == ""
    assert done.stderr == ("" if code == 130 else "mirror: x\n")
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(f"| {code} |"))
    assert row


def test_each_line_of_a_message_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def failing() -> None:
        raise errors.ConfigInvalid("a\x1b[2J\nb\u202e")

    monkeypatch.setattr("mirror.cli.status.status", failing)
    assert CliRunner().invoke(main, ["status"]).stderr == "mirror: a\\x1b[2J\nmirror: b\\u202e\n"


def test_nothing_is_imported_for_a_list_of_verbs_or_before_a_mirror_is_asked() -> None:
    script = (
        "import sys\nfrom mirror.cli import main\n"
        "try: main(['--help'], prog_name='mirror')\nexcept SystemExit: pass\n"
        "print(*sorted(name for name in sys.modules if name.startswith('mirror') or name == 'http.client'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1].split() == [
        *("mirror", "mirror.cli", "mirror.cli.groups", "mirror.cli.output", "mirror.errors")
    ]


def test_a_character_that_a_terminal_lacks_is_no_failure(api: Scripted) -> None:
    api["GET /tags"] = {"tags": [{"name": "ä日"}]}
    done = subprocess.run(
        [sys.executable, "-m", "mirror", "tags", "x", "-q"],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\xe4\\u65e5\n", b"")


def test_a_reader_that_leaves_is_no_traceback(api: Scripted) -> None:
    api["GET /tags"] = {"tags": [{"name": "x" * 1000}] * 1000}
    done = subprocess.run(
        f"{sys.executable} -m mirror tags x -q | head -c 10",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"x" * 10, b"")


@pytest.mark.parametrize(
    "words", [["tags", "x", "-q"], ["images"], ["inspect", "--raw", "x"], ["--help"], ["tags", "--help"], ["--version"]]
)
@pytest.mark.parametrize(
    ("to", "why", "buffered"),
    [
        ("> /dev/full", "No space left on device", ""),
        ("> /dev/full", "No space left on device", "1"),
        (">&-", "it is closed", ""),
    ],
)
def test_a_standard_output_that_takes_nothing_is_one_line(
    api: Scripted, words: list[str], to: str, why: str, buffered: str
) -> None:
    api["GET /tags"] = {"tags": [{"name": "x"}]}
    api["GET /images"] = {"images": []}
    api["GET /image"] = detail()
    api[f"GET /v2/library/alpine/manifests/{digest('d')}"] = Raw(200, b"{}")
    script = f"{shlex.join([sys.executable, '-m', 'mirror', *words])} {to}"
    environ = {**os.environ, "PYTHONUNBUFFERED": buffered}
    done = subprocess.run(
        script, shell=True, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    if "--" in words[-1] and to == ">&-":
        assert (done.returncode, done.stderr) == (0, "")  # click's own words, which nobody wanted to read
        return
    assert (done.returncode, done.stderr) == (1, f"mirror: standard output cannot be written: {why}\n")


# --- the end ----------------------------------------------------------------------------------------------

_ENDING = """
import atexit, os, sys
from mirror.cli import run
atexit.register(lambda: os.write(2, b"taken down"))
{before}
sys.argv = ["mirror", {words}]
run()
"""


@pytest.mark.parametrize(
    ("words", "before", "code", "stderr"),
    [
        ('"--version"', "", 0, ""),
        ('"nothing"', "", 2, "Error: No such command 'nothing'."),
        ('"--version"', "sys.modules['mirror.application'] = sys", 0, "taken down"),
        ('"--version"', "sys.stdout.close(); sys.stdout = open(os.devnull, 'w'); sys.stdout.close()", 1, "taken down"),
    ],
)
def test_a_verb_ends_at_once_with_all_it_said_and_a_server_in_peace(
    words: str, before: str, code: int, stderr: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _ENDING.format(words=words, before=before)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert done.stdout == (f"mirror {__version__}\n" if "stdout" not in before and code == 0 else "")
    assert done.stderr.strip().splitlines()[-1:] == ([stderr] if stderr else [])
