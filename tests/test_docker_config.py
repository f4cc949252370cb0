import base64
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mirror import docker_config
from mirror.docker_config import DockerConfig
from mirror.errors import ConfigInvalid, MirrorError
from tests.cli.docker import docker_daemon

HOST = "mirror:5000"

#: A credential helper as docker's protocol has it; it keeps one file for each host beside itself.
HELPER = """#!/bin/sh
store="$(dirname "$0")/store"
mkdir -p "$store"
case "$1" in
store) cat > "$store/new"; mv "$store/new" "$store/$(sed 's/.*"ServerURL": *"\\([^"]*\\)".*/\\1/' "$store/new")" ;;
get) read -r host; cat "$store/$host" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) read -r host; rm "$store/$host" ;;
esac
"""


def encoded(login: str) -> str:
    return base64.b64encode(login.encode()).decode()


@pytest.fixture
def config(tmp_path: Path) -> DockerConfig:
    return DockerConfig({"DOCKER_CONFIG": str(tmp_path / "d"), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})


def write(config: DockerConfig, content: Any) -> None:
    config.path.parent.mkdir(exist_ok=True)
    config.path.write_text(content if isinstance(content, str) else json.dumps(content))


def content(config: DockerConfig) -> Any:
    return json.loads(config.path.read_text())


def install(tmp_path: Path, script: str = HELPER, name: str = "kept") -> Path:
    program = tmp_path / "bin" / f"docker-credential-{name}"
    program.parent.mkdir(exist_ok=True)
    program.write_text(script)
    program.chmod(0o755)
    return program.parent / "store"


# --- the file ---------------------------------------------------------------------------------------------


def test_where_it_lies(tmp_path: Path) -> None:
    assert DockerConfig({"DOCKER_CONFIG": "/x", "HOME": "/y"}).path == Path("/x/config.json")
    assert DockerConfig({"HOME": "/y"}).path == Path("/y/.docker/config.json")


def test_what_is_stored_is_found_and_can_be_erased(config: DockerConfig) -> None:
    assert config.get(HOST) is None
    assert not config.erase(HOST)
    assert config.store(HOST, "me", "pa:ss") == str(config.path)
    assert config.get(HOST) == ("me", "pa:ss")
    assert config.get("other:5000") is None
    assert content(config) == {"auths": {HOST: {"auth": encoded("me:pa:ss")}}}
    assert config.erase(HOST)
    assert config.get(HOST) is None
    assert content(config) == {"auths": {}}


def test_only_its_owner_may_read_it(config: DockerConfig) -> None:
    config.store(HOST, "me", "secret")
    assert stat.S_IMODE(config.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.path.parent.stat().st_mode) == 0o700
    config.path.chmod(0o644)
    config.store(HOST, "me", "other")
    assert stat.S_IMODE(config.path.stat().st_mode) == 0o600
    assert os.listdir(config.path.parent) == ["config.json"]


def test_what_is_not_ours_stays(config: DockerConfig) -> None:
    write(
        config,
        {
            "proxies": {"default": {}},
            "auths": {"ghcr.io": {"auth": encoded("a:b")}, "x.io": {}},
            "psFormat": "ä",
            "zz": [1],
        },
    )
    config.store(HOST, "me", "secret")
    config.store(HOST, "me", "newer")
    config.erase("ghcr.io")
    assert content(config) == {
        "proxies": {"default": {}},
        "auths": {"x.io": {}, HOST: {"auth": encoded("me:newer")}},
        "psFormat": "ä",
        "zz": [1],
    }
    assert list(content(config)) == ["proxies", "auths", "psFormat", "zz"]
    assert '\n\t"proxies"' in config.path.read_text()


@pytest.mark.parametrize("key", ["http://mirror:5000", "https://mirror:5000/v1/", "MIRROR:5000"])
def test_old_forms_of_a_host_are_the_same_host(config: DockerConfig, key: str) -> None:
    write(config, {"auths": {key: {"auth": encoded("me:secret")}}})
    assert config.get(HOST) == ("me", "secret")
    config.store(HOST, "me", "newer")
    assert list(content(config)["auths"]) == [HOST]
    assert config.erase(HOST)


@pytest.mark.parametrize("entry", [{}, {"auth": ""}, {"auth": "!"}, {"auth": encoded("nocolon")}, {"auth": 7}, 7, None])
def test_an_entry_without_a_login_is_none(config: DockerConfig, entry: Any) -> None:
    write(config, {"auths": {HOST: entry}})
    assert config.get(HOST) is None


def test_a_link_stays_a_link(config: DockerConfig, tmp_path: Path) -> None:
    config.path.parent.mkdir()
    (tmp_path / "real.json").write_text("{}")
    config.path.symlink_to(tmp_path / "real.json")
    config.store(HOST, "me", "secret")
    assert config.path.is_symlink()
    assert HOST in (tmp_path / "real.json").read_text()


@pytest.mark.parametrize("text", ["{", "[]", "7", "[" * 100_000])
def test_what_is_no_configuration_is_never_written_over(config: DockerConfig, text: str) -> None:
    write(config, text)
    for use in (lambda: config.store(HOST, "me", "x"), lambda: config.get(HOST), lambda: config.erase(HOST)):
        with pytest.raises(ConfigInvalid, match="mend it or move it away"):
            use()
    assert config.path.read_text() == text


def test_an_empty_file_is_an_empty_configuration(config: DockerConfig) -> None:
    write(config, "\n")
    config.store(HOST, "me", "x")
    assert config.get(HOST) == ("me", "x")


def test_a_failed_write_leaves_the_old_file(config: DockerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config.store(HOST, "me", "x")

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(MirrorError, match="cannot be written: No space left on device"):
        config.store(HOST, "me", "y")
    assert config.get(HOST) == ("me", "x")
    assert os.listdir(config.path.parent) == ["config.json"]


def test_a_file_that_cannot_be_read(config: DockerConfig) -> None:
    config.path.mkdir(parents=True)
    with pytest.raises(MirrorError, match="cannot be read: Is a directory"):
        config.get(HOST)


# --- helpers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", [{"credsStore": "kept"}, {"credHelpers": {HOST: "kept"}}])
def test_a_helper_keeps_what_it_is_for(config: DockerConfig, tmp_path: Path, setting: dict[str, Any]) -> None:
    store = install(tmp_path)
    write(config, setting)
    assert config.store(HOST, "me", "secret") == "docker-credential-kept"
    assert json.loads((store / HOST).read_text()) == {"ServerURL": HOST, "Username": "me", "Secret": "secret"}
    assert content(config) == {**setting, "auths": {HOST: {}}}
    assert config.get(HOST) == ("me", "secret")
    assert config.erase(HOST)
    assert os.listdir(store) == []
    assert content(config) == {**setting, "auths": {}}
    assert config.get(HOST) is None


def test_a_helper_for_another_host_is_not_asked(config: DockerConfig) -> None:
    write(config, {"credHelpers": {"ghcr.io": "none-such"}})
    assert config.get(HOST) is None
    config.store(HOST, "me", "x")
    assert config.get(HOST) == ("me", "x")


def test_the_helper_for_all_is_asked_for_what_it_is_said_to_keep_only(config: DockerConfig) -> None:
    write(config, {"credsStore": "none-such", "auths": {"ghcr.io": {}}})
    assert config.get(HOST) is None
    assert not config.erase(HOST)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (None, "docker-credential-kept cannot be used: No such file or directory"),
        ("#!/bin/sh\necho s3cret >&2; exit 3\n", "docker-credential-kept get ended with code 3"),
        ("#!/bin/sh\necho s3cret\n", "its answer cannot be read"),
        ("#!/bin/sh\nsleep 20\n", "did not answer within"),
    ],
)
def test_a_helper_that_fails(
    config: DockerConfig, tmp_path: Path, script: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_config, "_HELPER_S", 0.5)
    if script is not None:
        install(tmp_path, script)
    write(config, {"credHelpers": {HOST: "kept"}})
    with pytest.raises(MirrorError) as caught:
        config.get(HOST)
    assert says in caught.value.message
    assert "s3cret" not in caught.value.message


def test_a_helpers_name_is_a_plain_word(config: DockerConfig) -> None:
    write(config, {"credHelpers": {HOST: "../../bin/evil"}, "auths": {HOST: {"auth": encoded("a:b")}}})
    assert config.get(HOST) == ("a", "b")


# --- beside docker ----------------------------------------------------------------------------------------


def docker(config: DockerConfig, socket: Path, *words: str) -> None:
    subprocess.run(
        ["docker", "--config", str(config.path.parent), "-H", f"unix://{socket}", *words],
        input="s3cret",
        text=True,
        check=True,
        capture_output=True,
        timeout=60,
        env={"PATH": config._environ["PATH"], "HOME": str(config.path.parent)},
    )


@pytest.mark.skipif(shutil.which("docker") is None, reason="no docker")
@pytest.mark.parametrize("setting", [{}, {"credsStore": "kept"}, {"credHelpers": {HOST: "kept"}}])
def test_docker_reads_what_we_write_and_we_what_it_writes(
    config: DockerConfig, tmp_path: Path, setting: dict[str, Any]
) -> None:
    install(tmp_path)
    write(config, setting)
    with docker_daemon(tmp_path / "s", {"/auth": {"Status": "Login Succeeded"}}):
        docker(config, tmp_path / "s", "login", HOST, "-u", "me", "--password-stdin")
        theirs = config.path.read_text()
        assert config.get(HOST) == ("me", "s3cret")
        assert config.erase(HOST)
        config.store(HOST, "me", "s3cret")
        assert content(config) == json.loads(theirs)
        if not setting:
            assert config.path.read_text() == theirs
        docker(config, tmp_path / "s", "logout", HOST)
        assert config.get(HOST) is None
