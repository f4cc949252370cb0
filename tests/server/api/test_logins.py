"""`POST /api/v1/login` and `/logout`, against registries on real sockets and a credential helper."""

import asyncio
import base64
import json
import logging
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.support import HUB
from tests.server.calls import Call, Wire
from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import Reply, Running, mirror_in_process
from tests.test_docker_config import HELPER

USER, SECRET = "alice", "pass-word-7"
BODY = {"registry": HUB, "username": USER, "password": SECRET}

CALLS = [
    Call("POST /api/v1/login", 403, {}, "DENIED"),
    Call("POST /api/v1/logout", 403, {}, "DENIED"),
    Call("GET /api/v1/login", 405, {"Allow": "POST"}, "UNSUPPORTED"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_calls(shared_wire: Wire, call: Call) -> None:
    await shared_wire.check(call)


@pytest.fixture(autouse=True)
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """docker's configuration, this test's own."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker" / "config.json"


@asynccontextmanager
async def guarded(
    tmp_path: Path, scheme: Any = "bearer", **section: object
) -> AsyncIterator[tuple[FakeRegistry, Running]]:
    """A docker.io with a private image, me/secret:1, and a mirror before it that has no login."""
    async with FakeRegistry() as registry:
        registry.access.scheme, registry.access.users = scheme, {USER: SECRET}
        registry.access.private = ["me/*"]
        registry.add_image("me/secret", "1")
        settings = {HUB: {"url": registry.url, **section}}
        async with mirror_in_process(tmp_path / "data", settings, access={"loopback": "all"}) as mirror:
            yield registry, mirror


async def post(mirror: Running, verb: str, body: object) -> Reply:
    async with mirror.session.post(f"{mirror.url}/api/v1/{verb}", json=body) as response:
        return Reply(response.status, response.headers.copy(), await response.read())


def said(reply: Reply) -> tuple[int, str, int]:
    """Status, message and exit code of an error."""
    error = json.loads(reply.body)["errors"][0]
    return reply.status, error["message"], error["detail"]["exit_code"]


async def written(file: Path) -> Any:
    return json.loads(await asyncio.to_thread(file.read_text))


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
async def test_in_used_at_once_and_out(
    tmp_path: Path, docker: Path, caplog: pytest.LogCaptureFixture, scheme: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with guarded(tmp_path, scheme) as (registry, mirror):
            assert (await mirror.get("/v2/me/secret/manifests/1")).status == 404
            reply = await post(mirror, "login", BODY)
            assert reply.status == 200
            assert json.loads(reply.body) == {"registry": HUB, "username": USER, "stored_in": str(docker)}
            assert (await mirror.get("/v2/me/secret/manifests/1")).status == 200
            host = f"127.0.0.1:{registry.port}"
            encoded = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
            assert await written(docker) == {"auths": {host: {"auth": encoded}}}
            mode = await asyncio.to_thread(lambda: docker.stat().st_mode)
            assert stat.S_IMODE(mode) == 0o600
            status = json.loads((await mirror.get("/api/v1/status")).body)
            assert status["registries"][0]["credentials"] is True
            for removed in (True, False):
                reply = await post(mirror, "logout", {"registry": HUB})
                assert (reply.status, json.loads(reply.body)) == (200, {"registry": HUB, "removed": removed})
            assert await written(docker) == {"auths": {}}
            registry.forget()
            assert (await mirror.get("/v2/me/secret/manifests/2")).status == 404
            assert not any(
                request.headers.get("Authorization", "").startswith("Basic") for request in registry.requests
            )
    assert SECRET not in caplog.text
    assert encoded not in caplog.text


@pytest.mark.parametrize("scheme", ["bearer", "basic"])
async def test_a_wrong_password_is_not_stored(
    tmp_path: Path, docker: Path, caplog: pytest.LogCaptureFixture, scheme: str
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with guarded(tmp_path, scheme) as (_, mirror):
            reply = await post(mirror, "login", {**BODY, "password": "wrong-word"})
            refused = f"{HUB} refused this user name and password; nothing was stored"
            assert said(reply) == (403, refused, 5)
    assert not docker.exists()
    assert "wrong-word" not in caplog.text
    assert b"wrong-word" not in reply.body


async def test_a_dead_registry(tmp_path: Path, docker: Path) -> None:
    async with guarded(tmp_path) as (registry, mirror):
        await registry.stop()
        status, message, code = said(await post(mirror, "login", BODY))
        assert (status, code) == (503, 1)
        assert "nothing was stored" in message
        mirror.app.policy.offline = True
        assert said(await post(mirror, "login", BODY))[2] == 9
        assert SECRET not in message
    assert not docker.exists()


async def test_through_a_helper(tmp_path: Path, docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.parent.mkdir()
    docker.write_text(json.dumps({"credsStore": "kept", "psFormat": "x"}))
    program = docker.parent / "docker-credential-kept"
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    async with guarded(tmp_path) as (registry, mirror):
        reply = await post(mirror, "login", BODY)
        assert json.loads(reply.body)["stored_in"] == "docker-credential-kept"
        host = f"127.0.0.1:{registry.port}"
        assert await written(docker) == {"credsStore": "kept", "psFormat": "x", "auths": {host: {}}}
        assert (await mirror.get("/v2/me/secret/manifests/1")).status == 200
        assert json.loads((await post(mirror, "logout", {"registry": HUB})).body)["removed"] is True
        assert os.listdir(docker.parent / "store") == []


async def test_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service. Fails if its login is lost at a restart."""
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.delenv("HOME")
    async with guarded(tmp_path) as (registry, mirror):
        own = tmp_path / "data/docker/config.json"
        assert json.loads((await post(mirror, "login", BODY)).body)["stored_in"] == str(own)
        assert (await mirror.get("/v2/me/secret/manifests/1")).status == 200
        mode = await asyncio.to_thread(lambda: (own.stat().st_mode, own.parent.stat().st_mode))
        assert [stat.S_IMODE(each) for each in mode] == [0o600, 0o700]
        address = registry.url
        await asyncio.to_thread(mirror.app.listeners.bound)
    async with FakeRegistry(port=registry.port) as again:
        again.access = registry.access
        again.add_image("me/other", "1")
        async with mirror_in_process(tmp_path / "data", {HUB: address}) as mirror:
            assert (await mirror.get("/v2/me/other/manifests/1")).status == 200


async def test_what_the_settings_say_is_not_overwritten(tmp_path: Path, docker: Path) -> None:
    async with guarded(tmp_path, username=USER, password=SECRET) as (registry, mirror):
        registry.forget()
        for verb, body in (("login", BODY), ("logout", {"registry": HUB})):
            status, message, code = said(await post(mirror, verb, body))
            assert (status, code) == (400, 2)
            assert f'change [registries."{HUB}"]' in message
        assert registry.count() == 0
    assert not docker.exists()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {**BODY, "registry": "nowhere.test"},
        {**BODY, "registry": "a b"},
        {**BODY, "username": "a:b"},
        {**BODY, "password": ""},
        {**BODY, "password": 7},
        {**BODY, "more": 1},
    ],
)
async def test_what_is_no_login(tmp_path: Path, docker: Path, body: object) -> None:
    async with guarded(tmp_path) as (registry, mirror):
        reply = await post(mirror, "login", body)
        assert reply.status in (400, 404)
        assert SECRET.encode() not in reply.body
        assert registry.count() == 0
    assert not docker.exists()
