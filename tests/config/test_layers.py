from pathlib import Path
from typing import get_args

import pytest

from mirror.config.layers import (
    PATH_KEYS,
    find_file,
    from_environment,
    from_file,
    from_flags,
)
from mirror.config.model import AccessSettings, RegistrySettings, Settings
from mirror.errors import ConfigInvalid


def values(layer_environment: dict[str, str]) -> dict[tuple[str, ...], object]:
    layer = from_environment(layer_environment)
    assert layer.problems == []
    return {path: value for path, (value, _) in layer.leaves.items()}


def test_path_keys_are_the_models_paths() -> None:
    paths = {
        key
        for model in (Settings, AccessSettings, RegistrySettings)
        for key, field in model.model_fields.items()
        if Path in (field.annotation, *(getattr(branch, "__origin__", branch) for branch in get_args(field.annotation)))
    }
    assert paths == PATH_KEYS


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("MIRROR_LISTEN", "127.0.0.1:5000, [::1]:5000,", ("127.0.0.1:5000", "[::1]:5000")),
        ("MIRROR_LISTEN_LOGIN", "127.0.0.1:5001,", ("127.0.0.1:5001",)),
        ("MIRROR_OWN", "team/*, x/**", ("team/*", "x/**")),
        ("MIRROR_MAX_SIZE", "200MB", "200MB"),
        ("MIRROR_OFFLINE", "Yes", True),
        ("MIRROR_OFFLINE", "0", False),
        ("MIRROR_PRIVATE_STALE", "3600", 3600.0),
        ("MIRROR_PRIVATE_STALE", "2h", "2h"),
        ("MIRROR_DATA", "/data", Path("/data")),
        ("MIRROR_ACCESS_LOG", "-", Path("-")),
    ],
)
def test_variables_become_values(name: str, text: str, value: object) -> None:
    assert values({name: text}) == {(name.removeprefix("MIRROR_").lower(),): value}


@pytest.mark.parametrize("key", set(Settings.model_fields) - {"access", "registries"})
def test_every_top_level_key_has_its_variable(key: str) -> None:
    assert list(values({f"MIRROR_{key.upper()}": "1"})) == [(key,)]


def test_json_variables_become_sections() -> None:
    assert values(
        {"MIRROR_ACCESS": '{"loopback": "pull"}', "MIRROR_REGISTRIES": '{"Docker.io": {"tag_ttl": "5m"}}'}
    ) == {
        ("access", "loopback"): "pull",
        ("registries", "docker.io", "tag_ttl"): "5m",
    }


def test_an_empty_variable_is_not_set() -> None:
    assert values({"MIRROR_LISTEN": "", "MIRROR_DATA": ""}) == {}


@pytest.mark.parametrize(
    "name",
    [
        *("MIRROR_CONFIG", "MIRROR_SERVER", "MIRROR_PORT", "MIRROR_SERVICE_HOST", "MIRROR_SERVICE_PORT_HTTP"),
        *("MIRROR_PORT_5000_TCP", "MIRROR_PORT_5000_TCP_ADDR", "MIRROR_TESTS_SESSION", "MIRRORED", "LISTEN"),
    ],
)
def test_variables_of_others_are_left_alone(name: str) -> None:
    assert values({name: "tcp://10.0.0.1:5000"}) == {}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("MIRROR_SERVERNAME", "MIRROR_SERVER"), ("MIRROR_UPSTREAM", "MIRROR_ON_UPSTREAM_GONE"), ("MIRROR_", "")],
)
def test_an_unknown_variable_is_remarked_with_the_nearest(name: str, nearest: str) -> None:
    layer = from_environment({name: "x", "MIRROR_PORT": "x", "MIRROR_SERVER": "x", "MIRROR_CONFIG": "x"})
    (remark,) = layer.remarks
    assert layer.problems == []
    assert str(remark).startswith(f"environment {name}: no such setting, and left alone; the nearest is {nearest}")


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"MIRROR_LISTEM": "x"}, "environment MIRROR_LISTEM: no such setting; did you mean MIRROR_LISTEN?"),
        ({"MIRROR_SERVR": "x"}, "environment MIRROR_SERVR: no such setting; did you mean MIRROR_SERVER?"),
        ({"MIRROR_OFLINE": "x"}, "environment MIRROR_OFLINE: no such setting; did you mean MIRROR_OFFLINE?"),
        ({"MIRROR_OFFLINE": "maybe"}, "environment MIRROR_OFFLINE: found 'maybe', allowed: true or false"),
        (
            {"MIRROR_REGISTRIES": "{"},
            "environment MIRROR_REGISTRIES: is no JSON at character 1; write an object such as",
        ),
        ({"MIRROR_REGISTRIES": "[" * 100_000}, "environment MIRROR_REGISTRIES: is no JSON"),
        ({"MIRROR_ACCESS": "5"}, "environment MIRROR_ACCESS: access: found 5, allowed: a table, [access]"),
        (
            {"MIRROR_REGISTRIES": '["x"]'},
            "environment MIRROR_REGISTRIES: registries: found another value, allowed: a table",
        ),
    ],
)
def test_wrong_variables_are_named(environment: dict[str, str], says: str) -> None:
    (problem,) = from_environment(environment).problems
    assert str(problem).startswith(says)


def test_json_that_is_none_is_not_repeated_since_it_holds_passwords() -> None:
    (problem,) = from_environment({"MIRROR_REGISTRIES": '{"x.io": {"password": "hunter2"'}).problems
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("ofline = true", 'ofline: no such key; did you mean "offline"?'),
        ("log-format = 'json'", 'log-format: no such key; did you mean "log_format"?'),
        ("zzz = 'hunter2'", "zzz: no such key; allowed: data, listen, "),
        ("tag_ttl = '5m'", 'tag_ttl: "tag_ttl" belongs to a registry: move it below [registries."docker.io"]'),
        ('[registries."x.io"]\noffline = true', 'registries."x.io".offline: "offline" belongs to no table: move it'),
        ('[registries."x.io"]\nurls = "y"', 'registries."x.io".urls: no such key; did you mean "url"?'),
        ("[access]\nloopbak = 'all'", 'access.loopbak: no such key; did you mean "loopback"?'),
        ("[registries.docker.io]\nenabled = true", 'write [registries."docker.io"]'),
        ("[registries.registry.example.com]\nurl = 'x'", 'write [registries."registry.example.com"]'),
        ("[registries]\n'docker.io' = 'hunter2'", 'found another value, allowed: a table, [registries."docker.io"]'),
        ("registries = true", 'registries: found true, allowed: a table, [registries."docker.io"]'),
        ("[registries.'a/b']\nenabled = true", "is no registry host"),
        ("[registries.'x.io']\n[registries.'X.io']", 'the registry "x.io" stands there twice'),
        ("data = ''", "data: the path is empty; write one, or leave the key out"),
    ],
)
def test_wrong_keys_are_named_with_the_nearest(tmp_path: Path, toml: str, says: str) -> None:
    file = tmp_path / "mirror.toml"
    file.write_text(toml)
    (problem,) = from_file(file).problems
    assert str(problem).startswith(f"{file}: ")
    assert says in str(problem)
    assert "hunter2" not in str(problem)


def test_a_files_paths_are_meant_below_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    file = tmp_path / "mirror.toml"
    file.write_text('data = "data"\nsocket = "/run/s"\naccess_log = "~/log"\n[registries."x.io"]\nca_file = "ca"')
    assert {path[-1]: value for path, (value, _) in from_file(file).leaves.items()} == {
        "data": tmp_path / "data",
        "socket": Path("/run/s"),
        "access_log": Path("/home/somebody/log"),
        "ca_file": tmp_path / "ca",
    }


def test_a_flags_paths_are_meant_below_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert from_flags({"data": Path("data")}).leaves == {("data",): (tmp_path / "data", "--data")}


def test_flags_that_were_not_given_are_no_settings() -> None:
    assert from_flags({"data": None, "listen": (), "offline": None}).leaves == {}
    assert from_flags({"log_format": "json"}).leaves == {("log_format",): ("json", "--log-format")}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"x = ", "is no TOML: Invalid value"),
        (b"x = 1\nx = 2", "is no TOML: Cannot overwrite"),
        (b"\xff", "is no UTF-8 text: byte 0 is wrong"),
        (b"x = " + b"[" * 100_000, "is no TOML"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "mirror.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigInvalid) as caught:
        from_file(file)
    assert caught.value.message.startswith(f"{file}: {says}")


def test_the_file_is_the_flags_else_the_environments_else_the_systems(tmp_path: Path) -> None:
    system = tmp_path / "system.toml"
    named = {"MIRROR_CONFIG": "/named.toml"}
    assert find_file(Path("/flag.toml"), named, system) == Path("/flag.toml")
    assert find_file(None, named, system) == Path("/named.toml")
    assert find_file(None, {}, system) is None
    system.touch()
    assert find_file(None, {"MIRROR_CONFIG": ""}, system) == system
