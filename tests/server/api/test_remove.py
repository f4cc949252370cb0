"""`POST /api/v1/remove`, with what is then on the disk and what clients get."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.server.api.naming import shop

NAME = "docker.io/library/alpine:3.20"


def on_disk(tmp_path: Path) -> int:
    """Bytes of blobs."""
    return sum(entry.stat().st_size for entry in os.scandir(tmp_path / "data" / "blobs" / "sha256"))


def of(events: list[dict[str, Any]], kind: str, key: str) -> list[Any]:
    return [event[key] for event in events if event["event"] == kind]


async def test_what_is_freed_is_gone_from_the_disk(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        before = on_disk(tmp_path)
        foreseen = await made.remove("alpine:3.20", dry_run=True)
        assert on_disk(tmp_path) == before
        events = await made.remove("alpine:3.20")
        assert events[0] == {"event": "untagged", "name": NAME}
        assert set(of(events, "deleted", "digest")) == {
            made.image.digest, made.image.config[0], *(digest for digest, _ in made.image.layers)
        }  # fmt: skip
        assert of(events, "freed", "bytes") == [before] == of(foreseen, "freed", "bytes")
        assert sorted(map(str, events)) == sorted(map(str, foreseen))
        assert events[-1] == {"event": "end", "ok": 1, "failed": 0}
        assert on_disk(tmp_path) == 0
        assert (await made.remove("alpine:3.20"))[0]["message"] == "No such image: alpine:3.20"
        made.hub.forget()
        await made.pull("library/alpine", made.image, "3.20")  # it comes back from its registry, whole
        assert made.hub.count("GET */blobs/*") == 4


async def test_bytes_that_another_name_needs_stay(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        await made.tag("alpine:3.20", "team/app:1")
        before = on_disk(tmp_path)
        events = await made.remove("alpine:3.20")
        assert [event["event"] for event in events] == ["untagged", "freed", "end"]
        assert on_disk(tmp_path) == before
        await made.pull("team/app", made.image, "1")
        events = await made.remove("team/app:1")
        assert of(events, "freed", "bytes") == [before]
        assert on_disk(tmp_path) == 0


async def test_a_batch(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        events = await made.remove("gone:1", "alpine:3.20")
        assert [event["event"] for event in events][:2] == ["error", "untagged"]
        assert events[0]["exit_code"] == 4
        assert events[-1] == {"event": "end", "ok": 1, "failed": 1}
        assert await made.remove("gone:1", force=True) == [{"event": "end", "ok": 1, "failed": 0}]


async def test_docker_s_sentence(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        await made.tag("alpine:3.20", "team/app:1")
        short = made.image.digest.removeprefix("sha256:")[:12]
        (error, end) = await made.remove(short)
        sentence = f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        assert (error["message"], error["exit_code"]) == (sentence, 1)
        assert end == {"event": "end", "ok": 0, "failed": 1}
        events = await made.remove(short, force=True)
        assert sorted(of(events, "untagged", "name")) == [NAME, "local/team/app:1"]


@pytest.mark.parametrize("body", [{}, {"references": []}, {"references": ["a"], "platforms": ["a/b/c/d"]}])
async def test_bad_requests(tmp_path: Path, body: dict[str, Any]) -> None:
    async with shop(tmp_path) as made:
        (answer,) = await made.api.all("/remove", **body)
        assert answer["status"] == 400


async def test_not_without_the_socket_or_a_user(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        async with made.mirror.session.post(
            f"{made.mirror.url}/api/v1/remove", json={"references": ["alpine:3.20"]}
        ) as response:
            assert response.status == 403
        await made.pull("library/alpine", made.image, "3.20")
