"""`POST /api/v1/tag`, and what clients then get by the new name."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.server.api.naming import Shop, shop, shop_at
from tests.support.fake_registry import FakeRegistry
from tests.support.fake_registry.behaviours import status

APP = "/v2/team/app/manifests/1"
QUALIFIED: list[tuple[str, dict[str, str]]] = [
    (f"{APP}?ns=docker.io", {}),
    (f"{APP}?ns=registry-1.docker.io", {}),
    ("/v2/docker.io/team/app/manifests/1", {}),
    ("/docker.io/v2/team/app/manifests/1", {}),
    (APP, {"Host": "registry-1.docker.io"}),
]


async def test_an_own_name_is_pulled_by_clients(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        digest = made.image.digest
        assert await made.tag("alpine:3.20", "team/app:1") == {"name": "local/team/app:1", "digest": digest}
        made.hub.forget()
        await made.pull("team/app", made.image, "1")
        await made.pull("team/app", made.image, "1")  # the front desk's answer
        by_digest = await made.get(f"/v2/team/app/manifests/{digest}")
        assert by_digest.body == made.image.manifest.raw
        assert json.loads((await made.get("/v2/team/app/tags/list")).body) == {"name": "team/app", "tags": ["1"]}
        assert json.loads((await made.get(f"/v2/team/app/referrers/{digest}")).body)["manifests"] == []
        missing = await made.get("/v2/team/app/manifests/2")
        assert (missing.status, missing.code) == (404, "MANIFEST_UNKNOWN")
        missing = await made.get("/v2/team/app/blobs/sha256:" + "0" * 64)
        assert (missing.status, missing.code) == (404, "BLOB_UNKNOWN")
        assert made.hub.requests == []


async def test_it_answers_nothing_that_names_a_registry(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        await made.tag("alpine:3.20", "team/app:1")
        for path, headers in QUALIFIED:
            reply = await made.get(path, **headers)
            assert (path, headers, reply.status) == (path, headers, 404)
        public = made.hub.add_image("team/app", "1", seed="public")
        made.mirror.clock.shift += 60  # nobody remembers that it was not there
        for path, headers in QUALIFIED * 2:
            assert (await made.get(path, **headers)).body == public.manifest.raw
            assert (await made.get(APP)).body == made.image.manifest.raw


async def test_what_the_front_desk_remembers_of_a_name_is_over_at_once(tmp_path: Path) -> None:
    """Breaks where the desk is not told that a name has become own: it goes on with the public image."""
    async with shop(tmp_path, own=["team/*"]) as made:
        public = made.hub.add_image("team/app", "1", seed="public")
        await made.pull("team/app", public, "1")
        await made.pull("team/app", public, "1")
        await made.tag("alpine:3.20", "team/app:1")
        await made.pull("team/app", made.image, "1")
        assert (await made.get(f"{APP}?ns=docker.io")).body == public.manifest.raw


async def test_own_names_outlive_a_restart(tmp_path: Path) -> None:
    async with FakeRegistry() as hub:
        async with shop_at(tmp_path, hub) as made:
            await made.tag("alpine:3.20", "team/app:1")
            await made.tag("alpine:3.20", "team/gone:1")
            assert (await made.remove("team/gone:1"))[-1] == {"event": "end", "ok": 1, "failed": 0}
        for name in ("team/app", "team/gone"):
            hub.add_image(name, "1", seed="public")
        async with shop_at(tmp_path, hub) as made:
            await made.pull("team/app", made.image, "1")
            reply = await made.get("/v2/team/gone/manifests/1")
            assert (reply.status, reply.code) == (404, "MANIFEST_UNKNOWN")


async def refusal(made: Shop, source: str, target: str) -> tuple[int, str, int]:
    answer = await made.tag(source, target)
    (error,) = answer["errors"]
    return answer["status"], error["message"], error["detail"]["exit_code"]


async def test_refusals(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        made.hub.add_image("team/public", "1")
        code, text, exit_code = await refusal(made, "alpine:3.20", "team/public:mine")
        assert (code, exit_code) == (403, 5)
        assert 'own = ["team/public"]' in text
        made.hub.script("GET */tags/list", status(503), times=None)
        code, text, exit_code = await refusal(made, "alpine:3.20", "team/app:1")
        assert (code, exit_code) == (403, 5)
        assert 'own = ["team/app"]' in text
        assert (await refusal(made, "alpine:3.20", "library/app:1"))[0] == 403
        made.hub.add_image("library/alpine", "3.19", seed="older")
        assert (await refusal(made, "alpine:3.20", "alpine:3.19"))[0] == 403
        assert await refusal(made, "nginx", "team/app:1") == (404, "No such image: nginx:latest", 4)
        assert (await refusal(made, "alpine:3.20", "Team/App"))[::2] == (400, 2)


@pytest.mark.parametrize("body", [{}, {"source": "a"}, {"source": "", "target": "b"}, {"source": "a", "target": 1}])
async def test_bad_requests(tmp_path: Path, body: dict[str, Any]) -> None:
    async with shop(tmp_path) as made:
        (answer,) = await made.api.all("/tag", **body)
        assert answer["status"] == 400


async def test_not_without_the_socket_or_a_user(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        async with made.mirror.session.post(
            f"{made.mirror.url}/api/v1/tag", json={"source": "alpine:3.20", "target": "team/app:1"}
        ) as response:
            assert response.status == 403
        assert (await made.get(APP)).status == 404
