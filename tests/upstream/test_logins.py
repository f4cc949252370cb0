"""Where the mirror's logins lie. What breaks a test is said in its docstring."""

import asyncio
import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from mirror.clock import Clock
from mirror.errors import ConfigInvalid, MirrorError
from mirror.upstream import logins as module
from mirror.upstream.logins import Logins, files_of
from tests.test_docker_config import HELPER
from tests.upstream.support import PASSWORD, USER

HOST, HUB = "registry.test", "registry-1.docker.io"


async def made(environment: dict[str, str], data: Path, clock: Clock | None = None) -> Logins:
    logins = Logins(environment, data, clock or Clock())
    await logins.load()
    return logins


async def found(logins: Logins, host: str = HOST) -> tuple[str, str] | None:
    login = await logins.lookup(host, registry="x")
    return None if login is None else (login.username, login.secret)


def written(file: Path) -> Any:
    return json.loads(file.read_text())


def encoded(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def test_docker_has_its_file_where_it_can_be_written(tmp_path: Path) -> None:
    data, home = tmp_path / "data", tmp_path / "home"
    own = data / "docker" / "config.json"
    assert files_of({}, data) == (own,)
    assert files_of({"HOME": str(home)}, data) == (home / ".docker/config.json",)
    assert files_of({"HOME": str(home), "DOCKER_CONFIG": str(home / "d")}, data) == (home / "d/config.json",)


def test_where_it_cannot_the_data_directory_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service whose home is read-only. Fails if a login cannot be kept there, or docker's file is no longer read."""
    data, home = tmp_path / "data", tmp_path / "home"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert files_of({"HOME": str(home)}, data) == (data / "docker/config.json", home / ".docker/config.json")
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    docker = tmp_path / "file/.docker/config.json"
    assert files_of({"HOME": str(tmp_path / "file")}, data) == (data / "docker/config.json", docker)


async def test_what_is_kept_is_found_at_once(tmp_path: Path) -> None:
    """Within the time for which the file is not looked at. Fails if a login counts only later."""
    logins = await made({"DOCKER_CONFIG": str(tmp_path)}, tmp_path / "data")
    assert not logins.mentions(HOST)
    assert await logins.store(HOST, USER, PASSWORD) == str(tmp_path / "config.json")
    assert logins.mentions(HOST)
    assert await found(logins) == (USER, PASSWORD)
    await logins.store(HOST, USER, "newer")
    assert await found(logins) == (USER, "newer")
    assert await logins.erase(HOST)
    assert not logins.mentions(HOST)
    assert await found(logins) is None
    assert not await logins.erase(HOST)
    mode = await asyncio.to_thread(lambda: (tmp_path / "config.json").stat().st_mode)
    assert stat.S_IMODE(mode) == 0o600


async def test_docker_hub_stands_under_the_key_that_docker_writes(tmp_path: Path) -> None:
    logins = await made({"DOCKER_CONFIG": str(tmp_path)}, tmp_path / "data")
    await logins.store(HUB, USER, PASSWORD)
    file = tmp_path / "config.json"
    assert await asyncio.to_thread(written, file) == {
        "auths": {"https://index.docker.io/v1/": {"auth": encoded(USER, PASSWORD)}}
    }
    assert await found(logins, HUB) == (USER, PASSWORD)
    assert await logins.erase(HUB)


async def test_through_the_configured_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "docker-credential-kept"
    await asyncio.to_thread(program.write_text, HELPER)
    await asyncio.to_thread(program.chmod, 0o755)
    environment = {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    await asyncio.to_thread((tmp_path / "config.json").write_text, json.dumps({"credsStore": "kept"}))
    logins = await made(environment, tmp_path / "data")
    assert await logins.store(HOST, USER, PASSWORD) == "docker-credential-kept"
    assert await found(logins) == (USER, PASSWORD)
    await logins.store(HOST, USER, "newer")
    assert await found(logins) == (USER, "newer")  # what the helper said before is forgotten
    assert await asyncio.to_thread(written, tmp_path / "config.json") == {"credsStore": "kept", "auths": {HOST: {}}}
    assert await logins.erase(HOST)
    assert await found(logins) is None
    monkeypatch.setattr("mirror.docker_config._HELPER_S", 0.5)
    await asyncio.to_thread(program.write_text, "#!/bin/sh\ncat; sleep 20\n")
    with pytest.raises(MirrorError, match="did not answer") as caught:
        await logins.store(HOST, USER, PASSWORD)
    assert PASSWORD not in str(caught.value)


async def test_a_home_that_is_only_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its logins are used until the mirror has one of its own. Fails if the older one wins."""
    data, docker = tmp_path / "data", tmp_path / "home/.docker/config.json"
    await asyncio.to_thread(docker.parent.mkdir, parents=True)
    await asyncio.to_thread(docker.write_text, json.dumps({"auths": {HOST: {"auth": encoded("old", "old")}}}))
    monkeypatch.setattr(module, "_can_be_written", lambda _: False)
    logins = await made({"HOME": str(tmp_path / "home")}, data)
    assert await found(logins) == ("old", "old")
    assert await logins.store(HOST, USER, PASSWORD) == str(data / "docker/config.json")
    assert await found(logins) == (USER, PASSWORD)
    assert await logins.erase(HOST)
    assert await found(logins) is None


async def test_what_is_no_configuration_is_not_written_over(tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "config.json").write_text, "{")
    logins = await made({"DOCKER_CONFIG": str(tmp_path)}, tmp_path / "data")
    with pytest.raises(ConfigInvalid):
        await logins.store(HOST, USER, PASSWORD)
    assert await asyncio.to_thread((tmp_path / "config.json").read_text) == "{"


async def test_many_at_once_lose_nothing(tmp_path: Path) -> None:
    """Fails if two read the same file and each writes its own."""
    logins = await made({"DOCKER_CONFIG": str(tmp_path)}, tmp_path / "data")
    hosts = [f"host{n}.test" for n in range(20)]
    await asyncio.gather(*(logins.store(host, USER, host) for host in hosts))
    assert [await found(logins, host) for host in hosts] == [(USER, host) for host in hosts]


async def test_an_older_token_of_the_same_host_goes(tmp_path: Path) -> None:
    """An entry with a refresh token wins over its password. Fails if a new login leaves it there."""
    entry = {"auth": encoded("old", "old"), "identitytoken": "t", "email": "a@b"}
    await asyncio.to_thread((tmp_path / "config.json").write_text, json.dumps({"auths": {HOST: entry}}))
    logins = await made({"DOCKER_CONFIG": str(tmp_path)}, tmp_path / "data")
    await logins.store(HOST, USER, PASSWORD)
    assert await found(logins) == (USER, PASSWORD)
    auths = (await asyncio.to_thread(written, tmp_path / "config.json"))["auths"]
    assert auths == {HOST: {"email": "a@b", "auth": encoded(USER, PASSWORD)}}
