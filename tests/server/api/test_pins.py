"""`/api/v1/pins`, as `mirror pin` and `mirror unpin` use it."""

from pathlib import Path
from typing import Any

import pytest

from tests.server.api.naming import Shop, shop

NAME = "docker.io/library/alpine:3.20"


async def listed(made: Shop) -> list[tuple[str, str]]:
    return [(each["name"], each["owner"]) for each in (await made.api.ask("GET", "/pins"))["pins"]]


async def test_a_pin_comes_and_goes(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        assert await listed(made) == []
        answer = await made.api.ask("POST", "/pins", {"references": ["alpine:3.20"]})
        assert [(each["name"], each["owner"]) for each in answer["pins"]] == [(NAME, "user")]
        await made.api.ask("POST", "/pins", {"references": ["alpine:3.20"], "owner": "release"})
        assert await listed(made) == [(NAME, "release"), (NAME, "user")]
        assert (await made.api.ask("GET", "/images"))["images"][0]["pinned"]
        (refused, _) = await made.remove("alpine:3.20")
        assert refused["event"] == "error"
        assert await made.api.ask("DELETE", "/pins?ref=alpine%3A3.20&owner=user") == {"ok": True}
        assert await listed(made) == [(NAME, "release")]
        assert await made.api.ask("DELETE", "/pins?ref=alpine%3A3.20") == {"ok": True}
        again = await made.api.ask("DELETE", "/pins?ref=alpine%3A3.20")
        assert (again["status"], again["errors"][0]["message"]) == (404, "alpine:3.20 is not pinned")
        assert again["errors"][0]["detail"]["exit_code"] == 4


async def test_by_id_the_manifest_is_pinned_wherever_it_is(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        await made.tag("alpine:3.20", "team/app:1")
        short = made.image.digest.removeprefix("sha256:")[:12]
        await made.api.ask("POST", "/pins", {"references": [short]})
        digest = made.image.digest
        assert await listed(made) == [
            (f"docker.io/library/alpine@{digest}", "user"),
            (f"local/team/app@{digest}", "user"),
        ]
        assert await made.api.ask("DELETE", f"/pins?ref={short}") == {"ok": True}
        assert await listed(made) == []


async def test_all_of_them_or_none(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        answer = await made.api.ask("POST", "/pins", {"references": ["alpine:3.20", "nothing:1"]})
        assert (answer["status"], answer["errors"][0]["message"]) == (404, "No such image: nothing:1")
        assert await listed(made) == []


@pytest.mark.parametrize("body", [{}, {"references": []}, {"references": ["a"], "owner": ""}, {"references": "a"}])
async def test_bad_requests(tmp_path: Path, body: dict[str, Any]) -> None:
    async with shop(tmp_path) as made:
        assert (await made.api.ask("POST", "/pins", body))["status"] == 400
        assert (await made.api.ask("DELETE", "/pins"))["status"] == 400


async def test_only_who_may(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        url = f"{made.mirror.url}/api/v1/pins"
        async with made.mirror.session.get(url) as response:
            assert response.status == 200
        async with made.mirror.session.post(url, json={"references": ["alpine:3.20"]}) as response:
            assert response.status == 403
        async with made.mirror.session.delete(url + "?ref=alpine") as response:
            assert response.status == 403
