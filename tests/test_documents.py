"""What the documents print is there: commands, flags, targets, settings, files. Nothing names one machine's folders."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mirror import errors
from mirror.cli import main
from mirror.config.model import RegistrySettings, Settings
from mirror.config.registries import WELL_KNOWN

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
UNIT = (ROOT / "systemd" / "mirror.service").read_text()
DOCUMENTS = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#]+)\)")


def fences(language: str) -> list[str]:
    return [text for found, text in _FENCE.findall(README) if found == language]


def shell_lines() -> list[str]:
    return [line.partition("  #")[0].strip() for text in fences("sh") for line in text.splitlines()]


def inline_code() -> list[str]:
    prose = _FENCE.sub("", README)
    return [" ".join(text.split()) for text in re.findall(r"`([^`]+)`", prose)]


def mirror_commands() -> Iterator[list[str]]:
    for line in [*shell_lines(), *inline_code()]:
        words = line.removeprefix(".venv/bin/").split()
        if words[:1] == ["mirror"] and len(words) > 1:
            yield words[1:]


def command_of(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words name, and what is left of them. An unknown verb raises `UsageError`."""
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        _, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, parent=context)
    return command, words


def test_there_are_commands_to_check() -> None:
    assert len(list(mirror_commands())) >= 5


@pytest.mark.parametrize("words", list(mirror_commands()), ids=" ".join)
def test_each_command_in_the_readme_exists_with_its_flags(words: list[str]) -> None:
    command, rest = command_of(words)
    flags = {flag for parameter in command.params for flag in parameter.opts} | {"--help"}
    assert {word for word in rest if word.startswith("--")} <= flags


@pytest.mark.parametrize("line", [line for line in shell_lines() if line.startswith("make ")])
def test_each_make_target_in_the_readme_exists(line: str) -> None:
    _, target, *variables = line.split()
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)
    for variable in variables:
        assert re.search(rf"^{variable.partition('=')[0]} \?=", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("words", [["serve"], ["status"], ["config", "check"], ["config", "show"]], ids=" ".join)
def test_each_command_has_help_that_fits_a_screen(words: list[str]) -> None:
    shown = CliRunner().invoke(main, [*words, "--help"], terminal_width=80)
    assert shown.exit_code == 0
    assert max(map(len, shown.output.splitlines())) <= 80


def test_the_config_check_in_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (words,) = [words for words in mirror_commands() if words[:2] == ["config", "check"] and len(words) > 2]
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("text", fences("toml"))
def test_toml_in_the_readme_is_toml(text: str) -> None:
    tomllib.loads(text)


def test_settings_in_the_readme_are_settings() -> None:
    (settings,) = [tomllib.loads(text) for text in fences("toml") if "password_file" in text]
    for registry in settings["registries"].values():
        assert set(registry) <= set(RegistrySettings.model_fields)


def test_json_in_the_readme_is_json() -> None:
    (daemon,) = map(json.loads, fences("json"))
    assert daemon == {"registry-mirrors": ["http://mirror:5000"], "insecure-registries": ["mirror:5000"]}


def test_variables_in_the_readme_are_read() -> None:
    known = {f"MIRROR_{key.upper()}" for key in Settings.model_fields} | {"MIRROR_CONFIG", "MIRROR_SERVER"}
    assert set(re.findall(r"\bMIRROR_[A-Z_]+\b", README)) <= known


def test_registries_named_in_the_example_are_well_known() -> None:
    example = (ROOT / "config" / "mirror.example.toml").read_text().replace("\n# ", " ")
    listed = re.search(r"out of the box: (.*?) and more", example)
    assert listed
    assert set(listed[1].split(", ")) <= set(WELL_KNOWN)


def test_every_exit_code_is_explained() -> None:
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}

    def tree(error: type[errors.MirrorError]) -> Iterator[type[errors.MirrorError]]:
        yield error
        for below in error.__subclasses__():
            yield from tree(below)

    assert {error.exit_code for error in tree(errors.MirrorError)} | {0, 130} <= explained


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in _LINK.findall(document.read_text()):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_unit_starts_what_there_is() -> None:
    start = re.search(r"^ExecStart=/usr/local/bin/mirror (.*)$", UNIT, re.MULTILINE)
    assert start
    assert command_of(start[1].split())[0].name == "serve"
    codes = re.search(r"^RestartPreventExitStatus=(.*)$", UNIT, re.MULTILINE)
    assert codes
    assert {int(code) for code in codes[1].split()} == {errors.ConfigInvalid.exit_code, errors.DataBusy.exit_code}


def test_every_pin_is_exact_and_from_no_place_in_particular() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 20
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []


def test_everything_that_is_installed_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()
    }
    assert {re.split(r"[<>=!~\[; ]", item)[0].lower() for item in wanted} <= pinned


def tracked_files() -> list[Path]:
    """What belongs to the project; without git, what lies at the top and is not hidden."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return [path for path in ROOT.glob("[!.]*") if path.is_file()]
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]


def test_no_file_names_the_folder_of_one_machine() -> None:
    documented = ("/opt/", "/etc/", "/usr/", "/var/", "/run/")
    places = [
        f"{folder}/".encode()
        for folder in (ROOT, ROOT.parent, Path.home())
        if len(folder.parts) > 2 and not str(folder).startswith(documented)
    ]
    files = tracked_files()
    assert files
    assert [file for file in files if any(place in file.read_bytes() for place in places)] == []
