"""docker's `config.json` and its helpers. What breaks a test is said in its docstring."""

import asyncio
import base64
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.clock import Clock
from mirror.errors import UpstreamCredentialsRefused
from mirror.upstream import docker_config
from mirror.upstream.docker_config import IDENTITY_TOKEN, DockerConfig
from tests.upstream.support import PASSWORD, no_secret_in

Helper = Callable[[str, str], Path]
LOGIN = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()


@pytest.fixture
def helper(tmp_path: Path) -> Helper:
    """Makes `docker-credential-<name>` from the body of a Python program; returns where it notes its calls."""

    def make(name: str, body: str) -> Path:
        calls = tmp_path / f"{name}.calls"
        program = tmp_path / f"docker-credential-{name}"
        program.write_text(
            f"#!{sys.executable}\nimport json, sys, time\nserver = sys.stdin.read().strip()\n"
            f"open({str(calls)!r}, 'a').write(sys.argv[1] + ' ' + server + chr(10))\n{body}\n"
        )
        program.chmod(0o755)
        return calls

    return make


def config(folder: Path, value: object, *, clock: Clock | None = None) -> DockerConfig:
    (folder / "config.json").write_text(value if isinstance(value, str) else json.dumps(value))
    environment = {"DOCKER_CONFIG": str(folder), "PATH": str(folder)}
    return DockerConfig(environment, clock or Clock())


async def found(configuration: DockerConfig, host: str) -> tuple[str, str] | None:
    login = await configuration.lookup(host, registry="registry.test")
    if login is not None:
        no_secret_in(login)
    return None if login is None else (login.username, login.secret)


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("registry.test", "registry.test"),
        ("https://registry.test", "registry.test"),
        ("https://registry.test/v2/", "registry.test"),
        ("registry.test:5000", "registry.test:5000"),
        ("registry.test:443", "registry.test"),
        ("https://index.docker.io/v1/", "registry-1.docker.io"),
        ("docker.io", "registry-1.docker.io"),
    ],
)
async def test_logins_by_host(tmp_path: Path, key: str, host: str) -> None:
    made = config(tmp_path, {"auths": {key: {"auth": LOGIN}}})
    assert not made.mentions(host)
    assert await found(made, host) == ("alice", PASSWORD)
    assert made.mentions(host)
    assert await found(made, "other.test") is None
    assert await found(made, "registry.test:5001") is None


async def test_other_forms(tmp_path: Path) -> None:
    made = config(
        tmp_path,
        {
            "auths": {
                "plain.test": {"username": "bob", "password": "secret-token"},
                "identity.test": {"auth": LOGIN, "identitytoken": "secret-token"},
                "quay.test/org": {"auth": LOGIN},
                "broken.test": {"auth": "%%%"},
                "empty.test": {},
                "wrong.test": 7,
            }
        },
    )
    assert await found(made, "plain.test") == ("bob", "secret-token")
    assert await found(made, "identity.test") == (IDENTITY_TOKEN, "secret-token")
    for host in ("quay.test", "broken.test", "empty.test", "wrong.test"):
        assert await found(made, host) is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"auths": 7}', "[" * 100_000])
async def test_what_is_no_configuration_holds_nothing(tmp_path: Path, text: str) -> None:
    assert await found(config(tmp_path, text), "registry.test") is None


async def test_without_a_file_or_a_home(tmp_path: Path) -> None:
    assert await found(DockerConfig({}, Clock()), "registry.test") is None
    assert await found(DockerConfig({"HOME": str(tmp_path)}, Clock()), "registry.test") is None


async def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    clock = Clock()
    made = config(tmp_path, {}, clock=clock)
    assert await found(made, "registry.test") is None
    config(tmp_path, {"auths": {"registry.test": {"auth": LOGIN}}})
    clock.shift += 5
    assert await found(made, "registry.test") == ("alice", PASSWORD)
    (tmp_path / "config.json").unlink()
    clock.shift += 5
    assert await found(made, "registry.test") is None


async def test_a_helper_for_one_registry(tmp_path: Path, helper: Helper) -> None:
    calls = helper("ecr", "print(json.dumps({'ServerURL': server, 'Username': 'AWS', 'Secret': 'secret-token'}))")
    made = config(tmp_path, {"credHelpers": {"registry.test": "ecr"}})
    assert await found(made, "registry.test") == ("AWS", "secret-token")
    assert await found(made, "registry.test") == ("AWS", "secret-token")
    assert await found(made, "other.test") is None
    assert made.mentions("registry.test")
    assert calls.read_text() == "get registry.test\n"


async def test_the_store_is_asked_for_what_was_logged_in(tmp_path: Path, helper: Helper) -> None:
    """Fails if the store is asked for every registry there is: it may open a window on somebody's screen."""
    calls = helper("pass", "print(json.dumps({'Username': '<token>', 'Secret': 'secret-token'}))")
    made = config(tmp_path, {"credsStore": "pass", "auths": {"https://index.docker.io/v1/": {}}})
    assert await found(made, "registry-1.docker.io") == (IDENTITY_TOKEN, "secret-token")
    assert await found(made, "registry.test") is None
    assert calls.read_text() == "get https://index.docker.io/v1/\n"


async def test_a_helper_is_asked_again_when_its_answer_was_refused(tmp_path: Path, helper: Helper) -> None:
    """But not for the very answer it just gave. Fails if a refused repository runs a program each time."""
    clock = Clock()
    calls = helper("ecr", "print(json.dumps({'Username': 'AWS', 'Secret': str(time.time())}))")
    made = config(tmp_path, {"credHelpers": {"registry.test": "ecr"}}, clock=clock)
    first = await found(made, "registry.test")
    made.forget("registry.test")
    assert await found(made, "registry.test") == first
    clock.shift += 40
    assert await found(made, "registry.test") == first
    made.forget("registry.test")
    assert await found(made, "registry.test") != first
    assert len(calls.read_text().splitlines()) == 2


async def test_a_helper_that_knows_nothing(tmp_path: Path, helper: Helper) -> None:
    helper("ecr", "print('credentials not found in native keychain'); sys.exit(1)")
    assert await found(config(tmp_path, {"credHelpers": {"registry.test": "ecr"}}), "registry.test") is None


@pytest.mark.parametrize(
    ("body", "reason", "seconds"),
    [
        ("print('secret-token'); sys.exit(3)", "code 3", 20.0),
        ("print('secret-token')", "cannot be read", 20.0),
        ("print(json.dumps(['secret-token']))", "cannot be read", 20.0),
        ("print(json.dumps({'Username': 'x'}))", "cannot be read", 20.0),
        ("sys.stdout.write('secret-token' * 100_000)", "too long", 20.0),
        ("sys.stdout.write('x'); sys.stdout.flush(); time.sleep(60)", "did not answer", 0.5),
    ],
)
async def test_a_helper_that_fails(
    tmp_path: Path, helper: Helper, monkeypatch: pytest.MonkeyPatch, body: str, reason: str, seconds: float
) -> None:
    """Fails if a helper that hangs, raves or breaks takes the mirror with it, or if its output is shown."""
    monkeypatch.setattr(docker_config, "HELPER_SECONDS", seconds)
    helper("ecr", body)
    async with asyncio.timeout(30):
        with pytest.raises(UpstreamCredentialsRefused, match=reason) as caught:
            await found(config(tmp_path, {"credHelpers": {"registry.test": "ecr"}}), "registry.test")
    no_secret_in(caught.value)
    assert "docker-credential-ecr" in caught.value.message


async def test_a_helper_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UpstreamCredentialsRefused, match="cannot be run"):
        await found(config(tmp_path, {"credHelpers": {"registry.test": "missing"}}), "registry.test")


async def test_the_name_of_a_helper_is_no_path(tmp_path: Path) -> None:
    assert await found(config(tmp_path, {"credHelpers": {"registry.test": "../../bin/sh"}}), "registry.test") is None


async def test_a_slow_helper_of_one_registry_holds_up_no_other(tmp_path: Path, helper: Helper) -> None:
    helper("slow", "time.sleep(30)")
    helper("fast", "print(json.dumps({'Username': 'AWS', 'Secret': 'x'}))")
    made = config(tmp_path, {"credHelpers": {"slow.test": "slow", "fast.test": "fast"}})
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(found(made, "slow.test"))
        await asyncio.sleep(0.1)
        assert await found(made, "fast.test") == ("AWS", "x")
        waiting.cancel()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
async def test_a_file_that_may_not_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = config(tmp_path, {})
    (tmp_path / "config.json").chmod(0)
    with caplog.at_level(logging.WARNING):
        assert await found(made, "registry.test") is None
    assert "cannot be read" in caplog.text
