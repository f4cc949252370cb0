"""`/api/v1/users` on the wire: for the socket and for users whose rule says "admin"."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.server.test_authentication import basic
from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import Reply, Running, mirror_in_process

USERS = "/api/v1/users"
RULES = [
    {"users": ["boss"], "repositories": ["none"], "allow": ["admin"]},
    {"users": ["ci"], "repositories": ["team/*"], "allow": ["pull", "push", "delete"]},
]


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.cache.users.COST", 4)


@asynccontextmanager
async def mirror(folder: Path, **access: Any) -> AsyncIterator[Running]:
    async with FakeRegistry() as hub, mirror_in_process(folder / "d", {"docker.io": hub.url}, access=access) as made:
        yield made


async def on_socket(mirror: Running, method: str, path: str, body: Mapping[str, object] | None = None) -> Reply:
    connector = aiohttp.UnixConnector(str(mirror.app.listeners.socket))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request(method, f"http://socket{path}", json=body) as response,
    ):
        return Reply(response.status, response.headers.copy(), await response.read())


async def test_a_user_is_added_logs_in_and_is_removed(tmp_path: Path) -> None:
    async with mirror(tmp_path, htpasswd=str(tmp_path / "users"), rules=RULES) as running:
        assert json.loads((await on_socket(running, "GET", USERS)).body) == {"users": []}
        for name in ("ci", "boss"):
            reply = await on_socket(running, "POST", USERS, {"username": name, "password": f"p-{name}"})
            assert (reply.status, json.loads(reply.body)) == (200, {"username": name, "new": True})
        boss, ci = basic("boss:p-boss"), basic("ci:p-ci")
        listed = await running.get(USERS, Authorization=boss)
        assert json.loads(listed.body) == {"users": [{"username": "boss"}, {"username": "ci"}]}
        assert (await running.get(USERS, Authorization=ci)).status == 403
        assert (await running.get(USERS)).status == 401  # loopback may not either, but a user could
        assert (await running.get("/api/v1/status", Authorization=ci)).status == 200
        assert (await running.get(f"{USERS}?username=ci", "DELETE", Authorization=boss)).status == 200
        assert (await running.get("/v2/", Authorization=ci)).status == 401
        gone = await on_socket(running, "DELETE", f"{USERS}?username=ci")
        assert (gone.status, gone.code, json.loads(gone.body)["errors"][0]["detail"]["exit_code"]) == (
            404, "NAME_UNKNOWN", 4,
        )  # fmt: skip


@pytest.mark.parametrize(("body", "says"), [
    ({"username": "a:b", "password": "x"}, "is no user name"),
    ({"username": "a", "password": ""}, "1 to 72 bytes"),
    ({"username": "a"}, "body: password"),
    ({"username": "a", "password": "hunter2", "role": "admin"}, "role"),
])  # fmt: skip
async def test_what_cannot_be_a_user(tmp_path: Path, body: dict[str, object], says: str) -> None:
    async with mirror(tmp_path, htpasswd=str(tmp_path / "users")) as running:
        reply = await on_socket(running, "POST", USERS, body)
        assert reply.status == 400
        assert says in reply.body.decode()
        assert "hunter2" not in reply.body.decode()
        assert not (tmp_path / "users").exists()


async def test_without_users_it_says_what_to_write(tmp_path: Path) -> None:
    async with mirror(tmp_path) as running:
        reply = await on_socket(running, "GET", USERS)
        assert (reply.status, "htpasswd = " in json.loads(reply.body)["errors"][0]["message"]) == (400, True)
