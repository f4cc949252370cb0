"""The group: help, exit codes, and what importing it costs."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mirror import __version__, errors
from mirror.cli import VERBS, main

ROOT = Path(__file__).parents[2]
HEAVY = {"aiohttp", "pydantic", "aiosqlite", "uvloop", "sqlite3", "asyncio", "prometheus_client", "mirror.application"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["serve", "--help"],
        ["status", "--help"],
        ["config", "check", "--help"],
        ["status", "--server", "unix:///nowhere"],
    ],
)
def test_a_client_verb_imports_no_server(arguments: list[str]) -> None:
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
    assert done.stdout.split() == ["mirror", "mirror.cli", "mirror.cli.output", "mirror.errors"]


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
