"""Help texts, flags and exit codes as data. `python -m tests.cli.test_help` writes `help.txt` anew."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from mirror.cli import main
from tests.cli.conftest import Run
from tests.cli.scripted import Scripted, failed, refusal

TEXTS = Path(__file__).with_name("help.txt")

#: The specification's table (verb → its flags beyond --help and --server).
FLAGS = {
    "search": "-f --filter --limit --no-trunc --registry --local --format",
    "tags": "--match --limit --history --no-trunc -q --quiet --format",
    "pull": "-a --all-tags --platform -j --jobs -f --file --if-missing --pin --dry-run -q --quiet --progress",
    "push": "-a --all-tags --to --platform -j --jobs --dry-run -q --quiet --progress",
    "images": "-a --all -q --quiet --digests --no-trunc -f --filter --tree --format",
    "inspect": "-f --format --raw --platform",
    "history": "-H --human --no-human --raw --platform --no-trunc -q --quiet --format",
    "layers": "--raw --no-trunc --format",
    "tag": "",
    "rmi": "-f --force --platform --dry-run",
    "df": "-v --verbose --format",
    "prune": "-a --all --filter --keep --max-size -f --force --dry-run",
    "pin": "--owner --format",
    "unpin": "--owner",
    "verify": "--repair --progress",
    "login": "-u --username --password-stdin",
    "logout": "",
    "user add": "--password-stdin",
    "user remove": "",
    "user list": "--format",
    "offline": "",
    "misses": "--limit --clear --format",
    "queue retry": "",
    "queue drop": "--all",
    "status": "--format",
}
ALONE = {"serve", "config check", "config show", "completion"}  # they ask no mirror


def commands(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every verb with its path; those of `image` are the same again."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    if path:
        yield " ".join(path), command
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        if path != ("image",):
            yield from commands(found, (*path, name))


COMMANDS = dict(commands())


def help_of(words: list[str]) -> str:
    shown = CliRunner().invoke(main, [*words, "--help"], terminal_width=80, prog_name="mirror")
    assert shown.exit_code == 0, shown.output
    return shown.output


def all_help() -> str:
    paths = ["", *COMMANDS]
    return "\n".join(f"$ mirror {path} --help".replace("  ", " ") + f"\n{help_of(path.split())}" for path in paths)


def test_help_is_what_was_agreed_on() -> None:
    assert all_help() == TEXTS.read_text()


@pytest.mark.parametrize("path", COMMANDS)
def test_help_fits_a_screen_and_is_whole_sentences(path: str) -> None:
    text = help_of(path.split())
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.replace("REF...", "").replace("NAME...", "").replace("ID...", "").replace("[ARGS]...", "")
    command = COMMANDS[path]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.opts == ["--format"], parameter.opts


@pytest.mark.parametrize("path", FLAGS)
def test_flags_are_those_of_the_specification(path: str) -> None:
    found = [
        flag
        for parameter in COMMANDS[path].params
        if isinstance(parameter, click.Option)
        for flag in (*parameter.opts, *parameter.secondary_opts)
    ]
    assert sorted(found) == sorted([*FLAGS[path].split(), "--server"])


def test_every_verb_stands_in_the_table() -> None:
    groups = {path for path, command in COMMANDS.items() if isinstance(command, click.Group)}
    assert set(COMMANDS) - groups - ALONE == set(FLAGS)


#: Verb with the least words that it needs → what it asks of the API first.
LEAST = {
    "search x": "GET /search",
    "tags x": "GET /tags",
    "pull x:1": "POST /pull",
    "push x:1": "POST /push",
    "image push x:1": "POST /push",
    "images": "GET /images",
    "inspect -f {{.Id}} x": "GET /image",
    "history x": "GET /image",
    "layers x": "GET /layers",
    "tag x y": "POST /tag",
    "rmi x": "POST /remove",
    "image rm x": "POST /remove",
    "df": "GET /df",
    "prune": "POST /prune",
    "pin": "GET /pins",
    "pin x": "POST /pins",
    "unpin x": "DELETE /pins",
    "verify": "POST /verify",
    "login -u me --password-stdin": "POST /login",
    "logout": "POST /logout",
    "user add me --password-stdin": "POST /users",
    "user remove me": "DELETE /users",
    "user list": "GET /users",
    "offline": "GET /offline",
    "offline on": "PUT /offline",
    "misses": "GET /misses",
    "misses --clear": "DELETE /misses",
    "queue": "GET /queue",
    "queue retry": "POST /queue",
    "queue retry 1": "POST /queue",
    "queue drop 1": "DELETE /queue",
    "status": "GET /status",
}
STREAMS = ("POST /pull", "POST /push", "POST /remove")


@pytest.mark.parametrize("code", [1, 2, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("words", LEAST)
def test_each_refusal_becomes_its_exit_code(api: Scripted, run: Run, words: str, code: int) -> None:
    api[LEAST[words]] = refusal(500, "because of this", code)
    done = run(*words.split(), stdin="s3cret")
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr == "mirror: because of this\n"
    assert api.asked == [LEAST[words]]


@pytest.mark.parametrize("code", [1, 2, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("words", [words for words, what in LEAST.items() if what in STREAMS])
def test_each_failure_in_a_stream_becomes_its_exit_code(api: Scripted, run: Run, words: str, code: int) -> None:
    events: list[Any] = [failed("x:1", "because of this", code), {"event": "end", "ok": 0, "failed": 1}]
    api[LEAST[words]] = events
    done = run(*words.split())
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.splitlines()[-1] == "mirror: because of this"


@pytest.mark.parametrize("words", LEAST)
def test_a_flag_that_is_none_exits_2(api: Scripted, run: Run, words: str) -> None:
    done = run(*words.split(), "--no-such-flag")
    assert (done.exit_code, done.stdout, api.requests) == (2, "", [])
    assert "No such option '--no-such-flag'" in done.stderr


if __name__ == "__main__":
    TEXTS.write_text(all_help())
