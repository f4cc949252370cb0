import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.config import load as load_module
from mirror.config.load import default_data, load
from mirror.config.registries import WELL_KNOWN
from mirror.errors import ConfigInvalid

Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def no_system_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own settings are not the test's."""
    monkeypatch.setattr(load_module, "SYSTEM_FILE", tmp_path / "system.toml")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(toml: str) -> Path:
        file = tmp_path / "mirror.toml"
        file.write_text(toml)
        return file

    return to_file


def problems(
    file: Path | None, environ: dict[str, str] | None = None, flags: dict[str, object] | None = None
) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load(file, environ or {}, flags or {})
    return caught.value.message.splitlines()


def test_without_anything_the_well_known_registries_are_there() -> None:
    settings = load(None, {}, {})
    assert {name: entry.url for name, entry in settings.registries.items()} == dict(WELL_KNOWN)
    assert settings.file is None


def test_flags_win_then_environment_then_file(write: Write) -> None:
    file = write('listen = ["127.0.0.1:1"]\nlog_format = "json"\non_upstream_gone = "follow"')
    environment = {"MIRROR_LISTEN": "127.0.0.1:2", "MIRROR_LOG_FORMAT": "text"}
    settings = load(file, environment, {"listen": ("127.0.0.1:3",)})
    assert settings.listen == ("127.0.0.1:3",)
    assert settings.log_format == "text"
    assert settings.on_upstream_gone == "follow"
    assert settings.default_registry == "docker.io"
    assert settings.file == file
    assert settings.origins[("listen",)] == "--listen"
    assert settings.origins[("log_format",)] == "environment MIRROR_LOG_FORMAT"
    assert settings.origins[("on_upstream_gone",)] == str(file)
    assert ("default_registry",) not in settings.origins


def test_the_systems_file_is_read_where_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text("offline = true")
    assert load(None, {}, {}).offline


def test_a_section_changes_only_the_keys_it_holds(write: Write) -> None:
    file = write('[registries."Docker.io:443"]\ntag_ttl = "5m"\n[registries."quay.io"]\nenabled = false')
    environment = {"MIRROR_REGISTRIES": '{"index.docker.io": {"private": "share"}, "x.io": {"url": "https://x.io"}}'}
    registries = load(file, environment, {}).registries
    assert registries["docker.io"].url == WELL_KNOWN["docker.io"]
    assert (registries["docker.io"].tag_ttl, registries["docker.io"].private) == (300, "share")
    assert not registries["quay.io"].enabled
    assert registries["x.io"].url == "https://x.io"


def test_a_password_takes_the_place_of_a_weaker_sources_file(write: Write) -> None:
    file = write('[registries."docker.io"]\nusername = "u"\npassword_file = "/nowhere"')
    settings = load(file, {"MIRROR_REGISTRIES": '{"docker.io": {"password": "p"}}'}, {})
    entry = settings.registries["docker.io"]
    assert entry.password is not None
    assert entry.password.get_secret_value() == "p"
    assert entry.password_file is None


def test_everything_wrong_is_said_at_once_with_where_what_and_allowed(write: Write) -> None:
    file = write(
        """
ofline = true
on_upstream_gone = "kep"
[access]
loopback = "al"
[registries."docker.io"]
tag_ttl = "soon"
[registries."reg.example.com"]
insecure = "yes"
"""
    )
    assert problems(file, {"MIRROR_LISTEN": "5000"}, {"log_format": "txt"}) == [
        f'{file}: ofline: no such key; did you mean "offline"?',
        f'{file}: registries."reg.example.com".url: missing; this registry is not a well-known one, so write url ='
        ' "https://reg.example.com"',
        "environment MIRROR_LISTEN: listen: '5000' names no address; write \"127.0.0.1:5000\" (this machine) or"
        ' "0.0.0.0:5000" (everyone)',
        f'{file}: on_upstream_gone: found "kep", allowed: "keep" or "follow"; did you mean "keep"?',
        '--log-format: log_format: found "txt", allowed: "text" or "json"; did you mean "text"?',
        f'{file}: access.loopback: found "al", allowed: "all", "push", "pull" or "none"; did you mean "all"?',
        f'{file}: registries."docker.io".tag_ttl: \'soon\' is no duration; write one such as "30s", "10m", "12h" or'
        ' "7d", or a number of seconds',
        f'{file}: registries."reg.example.com".insecure: found "yes", allowed: true or false',
    ]


WRONG_TYPES = [
    ("data", "5", "a path in quotes"),
    ("listen", '"127.0.0.1:5000"', "a list of HOST:PORT"),
    ("listen", "[5]", "a list of HOST:PORT"),
    ("default_registry", "5", "a registry host"),
    ("offline", "1", "true or false"),
    ("on_upstream_failure", "true", '"fallback" or "error"'),
    ("private_stale", "-1", "not below 0"),
    ("private_stale", "inf", "not below 0"),
    ("socket", "[]", "a path in quotes"),
    ("socket_group", "5", "a text in quotes"),
    ("log_format", "1979-05-27", '"text" or "json"'),
]
WRONG_REGISTRY_TYPES = [
    ("url", "5", "a URL such as"),
    ("url", "[5]", "or a list of them"),
    ("enabled", '"yes"', "true or false"),
    ("immutable_tags", "5", "a list of regular expressions"),
    ("username", "5", "a text in quotes"),
    ("private", "5", '"deny", "share", or a list of globs'),
    ("private", '"shar"', 'did you mean "share"?'),
    ("proxy", "5", "a URL such as"),
    ("ca_file", "5", "a path in quotes"),
    ("realms", '"x.io"', "a list of hosts"),
    ("addresses", "5", "a list of networks"),
    ("connect_timeout", "0", "a duration above 0"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG_TYPES)
def test_a_wrong_type_says_what_was_found_and_what_is_allowed(write: Write, key: str, value: str, allowed: str) -> None:
    (line,) = problems(write(f"{key} = {value}"))
    assert f": {key}: found " in line
    assert allowed in line


@pytest.mark.parametrize(("key", "value", "allowed"), WRONG_REGISTRY_TYPES)
def test_a_wrong_type_in_a_registry_too(write: Write, key: str, value: str, allowed: str) -> None:
    (line,) = problems(write(f'[registries."docker.io"]\n{key} = {value}'))
    assert f': registries."docker.io".{key}: found ' in line
    assert allowed in line


@pytest.mark.parametrize(
    "entry",
    [
        {"username": "u", "password": ["hunter2"]},
        {"username": "u", "password": "hunter2", "password_file": "/f"},
        {"password": "hunter2"},
        {"url": "https://u:hunter2@x.io"},
        {"url": ["https://u:hunter2@x.io", 5]},
        {"proxy": "socks5://u:hunter2@x.io"},
        {"proxy": ["http://u:hunter2@x.io"]},
        {"url": "http://10.0.0.1", "username": "u", "password": "hunter2"},
        {"pasword": "hunter2"},
    ],
)
def test_no_message_repeats_a_secret(entry: dict[str, object]) -> None:
    lines = problems(None, {"MIRROR_REGISTRIES": json.dumps({"docker.io": entry})})
    assert len(lines) == 1
    assert "docker.io" in lines[0]
    assert "hunter2" not in lines[0]


def test_a_long_wrong_value_is_cut(write: Write) -> None:
    (line,) = problems(write(f'log_format = "{"x" * 5000}"'))
    assert len(line) < 300


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('default_registry = "x.io"', 'default_registry: "x.io" is no configured registry; write [registries."x.io"]'),
        ('default_registry = "quay.io"\n[registries."quay.io"]\nenabled = false', '"quay.io" is not enabled'),
        ('[registries."docker.io"]\nca_file = "gone.pem"', "cannot be read: No such file or directory"),
        (
            '[registries."docker.io"]\nusername = "u"\npassword_file = "gone"',
            '"docker.io".password_file: ',
        ),
        ('socket_group = "no-such-group-here"', 'this machine has no group "no-such-group-here"'),
    ],
)
def test_what_only_the_whole_shows_is_checked(write: Write, toml: str, says: str) -> None:
    file = write(toml)
    (line,) = problems(file)
    assert line.startswith(f"{file}: ")
    assert says in line


def test_files_that_are_there_are_taken(write: Write, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p")
    file = write('[registries."docker.io"]\nusername = "u"\npassword_file = "secret"\nca_file = "secret"')
    assert load(file, {}, {}).registries["docker.io"].password_file == tmp_path / "secret"


@pytest.mark.parametrize(
    ("environment", "uid", "folder"),
    [
        ({}, 0, "/var/lib/mirror"),
        ({"XDG_DATA_HOME": "/x"}, 0, "/var/lib/mirror"),
        ({"XDG_DATA_HOME": "/x", "HOME": "/home/me"}, 1000, "/x/mirror"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/home/me"}, 1000, "/home/me/.local/share/mirror"),
        ({"HOME": "/home/me"}, 1000, "/home/me/.local/share/mirror"),
        ({"STATE_DIRECTORY": "/var/lib/mirror", "HOME": "/"}, 990, "/var/lib/mirror"),
        ({"STATE_DIRECTORY": "/var/lib/private/mirror:/other", "HOME": "/"}, 990, "/var/lib/private/mirror"),
        ({"STATE_DIRECTORY": "/var/lib/runner", "HOME": "/home/ci"}, 990, "/home/ci/.local/share/mirror"),
    ],
)
def test_where_data_lies_unless_told(environment: dict[str, str], uid: int, folder: str) -> None:
    assert default_data(environment, uid) == Path(folder)


def test_the_default_data_directory_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert load(None, {"XDG_DATA_HOME": "/x"}, {}).data == Path("/x/mirror")
