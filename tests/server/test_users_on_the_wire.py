"""Users over HTTP: who is challenged, where, and that a mirror's address never challenges an anonymous pull.

A stranger is a request with a sign of a proxy, as in `test_desk`: it comes from this machine, and does not count so.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from mirror.server.attempts import FAILURES
from mirror.server.http import Prepared
from tests.server import calls
from tests.server.calls import Wire
from tests.server.test_authentication import basic
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.content import FakeImage
from tests.support.mirror import Reply, Running, mirror_in_process

CHALLENGE = 'Basic realm="mirror"'
STRANGER = {"Via": "1.1 proxy"}
PUBLIC, PRIVATE = "/v2/library/alpine/manifests/3", "/v2/team/secret/manifests/1"
CI, PLAIN, WRONG = (basic(text) for text in ("ci:p-ci", "plain:p-plain", "ci:wrong"))
RULES = [{"users": ["ci"], "repositories": ["docker.io/team/*", "team/**"], "allow": ["pull"]}]


class Scene:
    """A mirror of a registry with a public and a private repository; users `ci` (who may pull team/*) and `plain`."""

    def __init__(self, mirror: Running, hub: FakeRegistry, public: FakeImage, secret: FakeImage) -> None:
        self.mirror = mirror
        self.hub = hub
        self.public = public
        self.secret = secret

    async def ask(
        self,
        path: str,
        who: str | None = None,
        method: str = "GET",
        *,
        login: bool = False,
        here: bool = False,
        **more: str,
    ) -> Reply:
        """One request: `who` are its credentials, `login` the address to log in at, `here` whether it is this
        machine's rather than a stranger's."""
        headers = {**({} if here else STRANGER), **({} if who is None else {"Authorization": who}), **more}
        host, port = self.mirror.app.login_addresses[0] if login else self.mirror.app.listeners.addresses[0]
        async with self.mirror.session.request(method, f"http://{host}:{port}{path}", headers=headers) as response:
            return Reply(response.status, response.headers.copy(), await response.read())

    async def said(self, *args: Any, **more: Any) -> tuple[int, str | None]:
        """Status and challenge."""
        reply = await self.ask(*args, **more)
        return reply.status, reply.headers.get("WWW-Authenticate")


@asynccontextmanager
async def scene(folder: Path, **access: Any) -> AsyncIterator[Scene]:
    file = folder / "htpasswd"
    file.write_text("".join(
        f"{name}:{bcrypt.hashpw(f'p-{name}'.encode(), bcrypt.gensalt(4)).decode()}\n" for name in ("ci", "plain")
    ))  # fmt: skip
    async with FakeRegistry() as hub:
        public = hub.add_image("library/alpine", "3", layers=[1000])
        secret = hub.add_image("team/secret", "1", layers=[2000])
        hub.add_image("team/open", "1", layers=[10])
        hub.access.scheme, hub.access.users, hub.access.private = "bearer", {"me": "pw"}, ["team/secret"]
        section = {"url": hub.url, "username": "me", "password": "pw"}
        settings: Mapping[str, Any] = {
            "access": {"htpasswd": str(file), "rules": RULES, **access},
            "listen_login": ["127.0.0.1:0"],
        }
        async with mirror_in_process(folder / "d", {"docker.io": section}, **settings) as mirror:
            yield Scene(mirror, hub, public, secret)


# --- where one is challenged ------------------------------------------------------------------------------

OK, NOT_THERE, LOG_IN, DENIED = (200, None), (404, None), (401, CHALLENGE), (403, None)

#: path, credentials → what is said at `listen` and at `listen_login`.
ANONYMOUS_PULL = [
    ("/v2/", None, OK, LOG_IN),
    ("/v2/", PLAIN, OK, OK),
    ("/v2/", WRONG, LOG_IN, LOG_IN),
    ("/v2/", "Bearer x", LOG_IN, LOG_IN),
    (PUBLIC, None, OK, OK),
    (PUBLIC, PLAIN, OK, OK),
    (PUBLIC, CI, OK, OK),
    (PUBLIC, WRONG, LOG_IN, LOG_IN),  # never silently a stranger
    (PRIVATE, None, NOT_THERE, LOG_IN),
    (PRIVATE, PLAIN, NOT_THERE, NOT_THERE),
    (PRIVATE, CI, OK, OK),
    (PRIVATE, WRONG, LOG_IN, LOG_IN),
    ("/v2/team/nothing/manifests/1", None, NOT_THERE, LOG_IN),
    ("/v2/team/nothing/manifests/1", CI, NOT_THERE, NOT_THERE),
    ("/v2/library/alpine/blobs/" + calls.NOWHERE, None, NOT_THERE, LOG_IN),
    ("/v2/nothing/tags/list", None, NOT_THERE, LOG_IN),
    ("/v3/", None, NOT_THERE, NOT_THERE),
    ("/api/v1/status", None, LOG_IN, LOG_IN),
    ("/api/v1/status", PLAIN, OK, OK),
    ("/api/v1/status", WRONG, LOG_IN, LOG_IN),
    ("/api/v1/users", None, LOG_IN, LOG_IN),
    ("/api/v1/users", CI, DENIED, DENIED),
    ("/api/v1/nothing", None, NOT_THERE, NOT_THERE),
    ("/healthz", None, OK, OK),
    ("/metrics", WRONG, OK, OK),
]
ANONYMOUS_NONE = [
    ("/v2/", None, LOG_IN, LOG_IN),
    ("/v2/", PLAIN, OK, OK),
    (PUBLIC, None, LOG_IN, LOG_IN),
    (PUBLIC, PLAIN, DENIED, DENIED),
    (PUBLIC, CI, NOT_THERE, NOT_THERE),  # he may pull elsewhere, and may not know of this
    (PRIVATE, None, LOG_IN, LOG_IN),
    (PRIVATE, CI, OK, OK),
    ("/v2/team/open/manifests/1", CI, OK, OK),
    ("/api/v1/status", PLAIN, OK, OK),
    ("/api/v1/openapi.json", None, LOG_IN, LOG_IN),
    ("/healthz", None, OK, OK),
]


@pytest.mark.parametrize(("anonymous", "table"), [("pull", ANONYMOUS_PULL), ("none", ANONYMOUS_NONE)])
async def test_who_is_told_what_where(
    tmp_path: Path, anonymous: str, table: list[tuple[str, str | None, tuple[int, str | None], tuple[int, str | None]]]
) -> None:
    async with scene(tmp_path, anonymous=anonymous) as shown:
        for path, who, plain, login in table * 2:  # once more with everything in memory
            for method in ("GET", "HEAD"):
                assert await shown.said(path, who, method) == plain, (path, who, method)
                assert await shown.said(path, who, method, login=True) == login, (path, who, method, "login")
            shown.mirror.clock.shift += 3600  # so many wrong passwords are nobody's attack
            shown.mirror.clock.wall_shift += 3600


@pytest.mark.parametrize("anonymous", ["pull", "none"])
async def test_this_machine_needs_no_user_but_where_one_logs_in(tmp_path: Path, anonymous: str) -> None:
    async with scene(tmp_path, anonymous=anonymous) as shown:
        for path in ("/v2/", PUBLIC, PRIVATE, "/api/v1/status"):
            assert await shown.said(path, here=True) == OK
            assert await shown.said(path, WRONG, here=True) == LOG_IN
        assert await shown.said("/v2/", here=True, login=True) == LOG_IN
        assert await shown.said("/v2/", PLAIN, here=True, login=True) == OK
        for path in (PUBLIC, PRIVATE):
            assert await shown.said(path, here=True, login=True) == OK
        assert await shown.said("/v2/nothing/manifests/1", here=True, login=True) == NOT_THERE


async def test_without_users_nothing_is_ever_challenged(wire: Wire) -> None:
    for request in ("GET /v2/", f"GET {PUBLIC}", "GET /v2/nothing/manifests/1", "GET /api/v1/status"):
        for sent in ({}, STRANGER, {**STRANGER, "Authorization": WRONG}):
            answer = await wire.send(request, sent)
            assert answer.status != 401
            assert "WWW-Authenticate" not in answer.headers


async def test_a_challenge_is_an_answer_of_the_registry(tmp_path: Path) -> None:
    async with scene(tmp_path) as shown:
        answer = await shown.ask("/v2/", login=True)
        assert (answer.code, answer.headers["Content-Type"]) == ("UNAUTHORIZED", "application/json")
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


async def test_too_many_wrong_passwords(tmp_path: Path) -> None:
    async with scene(tmp_path) as shown:
        assert await shown.said("/v2/", PLAIN) == OK
        for number in range(FAILURES):
            assert await shown.said("/v2/", basic(f"ci:{number}")) == LOG_IN
        limited = await shown.ask("/v2/", WRONG)
        assert (limited.status, limited.code) == (429, "TOOMANYREQUESTS")
        assert 1 <= int(limited.headers["Retry-After"]) <= 61
        assert await shown.said("/v2/", PLAIN) == OK  # remembered
        assert await shown.said(PUBLIC) == OK
        shown.mirror.clock.shift += 61
        assert await shown.said("/v2/", CI) == OK


# --- private repositories ---------------------------------------------------------------------------------


async def test_a_private_upstream_repository_is_open_by_a_rule_and_unknown_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if what a rule opened to one is served to the next from memory or from the disk."""
    at_once: list[Prepared] = []
    now = Prepared.now

    def counting(prepared: Prepared) -> bytes:
        at_once.append(prepared)
        return now(prepared)

    monkeypatch.setattr(Prepared, "now", counting)
    async with scene(tmp_path) as shown:
        digest, data = shown.secret.layers[0]
        paths = {
            PRIVATE: shown.secret.manifest.raw,
            f"/v2/team/secret/manifests/{shown.secret.digest}": shown.secret.manifest.raw,
            f"/v2/team/secret/blobs/{digest}": data,
        }
        for _ in range(2):
            for path, body in paths.items():
                assert (await shown.ask(path, CI)).body == body
                assert (await shown.ask(path, here=True)).body == body
                served = len(at_once)
                for who in (None, PLAIN):
                    refused = await shown.ask(path, who)
                    unknown = await shown.ask(path.replace("team/secret", "team/nothing"), who)
                    assert (refused.status, refused.code) == (unknown.status, unknown.code) == (404, refused.code)
                    assert refused.body.replace(b"team/secret", b"team/nothing") == unknown.body
                assert len(at_once) == served
            assert json.loads((await shown.ask("/v2/team/secret/tags/list", CI)).body)["tags"] == ["1"]
            assert (await shown.ask("/v2/team/secret/tags/list", PLAIN)).code == "NAME_UNKNOWN"


@pytest.mark.parametrize("path", [
    "/v2/team/open/manifests/1", "/v2/team/open/tags/list", "/v2/team/open/referrers/" + calls.NOWHERE,
    "/v2/team/open/blobs/" + calls.NOWHERE,
])  # fmt: skip
async def test_names_that_need_a_rule_are_unknown_without_one_whether_they_are_there_or_not(
    tmp_path: Path, path: str
) -> None:
    """Breaks if the answer to a name in `[access] private` depends on whether the mirror has made it its own."""
    async with scene(tmp_path, private=["team/*"]) as shown:
        there = await shown.ask(path, here=True)
        for _ in range(2):
            assert there.status == (404 if "/blobs/" in path else 200)
            assert (await shown.ask(path, CI)).status == there.status
            for who in (None, PLAIN):
                refused = await shown.ask(path, who)
                unknown = await shown.ask(path.replace("team/open", "team/nothing"), who)
                assert refused.status == unknown.status == 404
                assert refused.body.replace(b"team/open", b"team/nothing") == unknown.body
        asked = [request.target for request in shown.hub.requests if "team/nothing" in request.target]
        assert asked == []
        # by its registry's name it is that registry's, and no business of this setting
        assert (await shown.ask(path.replace("/v2/", "/v2/docker.io/", 1))).status == there.status


async def test_a_removed_user_is_out_at_once(tmp_path: Path) -> None:
    async with scene(tmp_path) as shown:
        assert await shown.said(PRIVATE, CI) == OK
        users = shown.mirror.app.users
        assert users is not None
        assert await users.remove("ci")
        assert await shown.said(PRIVATE, CI) == LOG_IN
