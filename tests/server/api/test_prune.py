"""`POST /api/v1/prune`: what is told is what goes from the disk, and what `df` and a dry run had said."""

import os
from pathlib import Path
from typing import Any

import pytest

from mirror.cache.flight import SMALL
from tests.faults.support import begin, later, until
from tests.server.api.naming import Shop, shop
from tests.support.fake_registry import Gate
from tests.support.fake_registry.behaviours import hang_after

NAME = "docker.io/library/alpine:3.20"


def on_disk(tmp_path: Path) -> int:
    """Bytes of blobs and of staging, as `du --apparent-size` adds them up."""
    folders = [tmp_path / "data" / name for name in ("blobs/sha256", "blobs/sha512", "ingest")]
    return sum(entry.stat().st_size for folder in folders for entry in os.scandir(folder))


def of(events: list[dict[str, Any]], kind: str, key: str) -> list[Any]:
    return sorted(event[key] for event in events if event["event"] == kind)


def freed(events: list[dict[str, Any]]) -> int:
    return sum(of(events, "freed", "bytes"))


async def reclaimable(made: Shop) -> int:
    answer = await made.api.ask("GET", "/df")
    return sum(each["reclaimable"] for each in answer["types"])


async def pruned(made: Shop, tmp_path: Path, **body: Any) -> list[dict[str, Any]]:
    """What is told, which a dry run has foreseen and which is what the disk loses."""
    before = on_disk(tmp_path)
    foreseen = await made.api.all("/prune", **body, dry_run=True)
    assert on_disk(tmp_path) == before
    events = await made.api.all("/prune", **body)
    assert freed(foreseen) == freed(events) == before - on_disk(tmp_path)
    for kind, key in (("untagged", "name"), ("deleted", "digest"), ("end", "ok"), ("end", "failed")):
        assert of(events, kind, key) == of(foreseen, kind, key)
    assert events[-1]["event"] == "end"
    return events


async def test_all_that_can_be_had_again_goes(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        other = made.hub.add_image("library/other", "1", layers=[made.image.layers[0][1], 70_000], seed="other")
        await made.pull("library/other", other, "1")
        before = on_disk(tmp_path)
        assert await reclaimable(made) == before
        events = await pruned(made, tmp_path, all=True)
        assert freed(events) == before
        assert of(events, "untagged", "name") == [NAME, "docker.io/library/other:1"]
        assert await reclaimable(made) == 0
        made.hub.forget()
        await made.pull("library/alpine", made.image, "3.20")  # it comes back from its registry, whole
        assert made.hub.count("GET */blobs/*") == 4


async def test_what_is_pinned_stays_with_all_that_it_needs(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        other = made.hub.add_image("library/other", "1", layers=[made.image.layers[0][1], 70_000], seed="other")
        await made.pull("library/other", other, "1")
        assert (await made.api.ask("POST", "/pins", {"references": ["alpine:3.20"]}))["pins"][0]["name"] == NAME
        said = await reclaimable(made)
        events = await pruned(made, tmp_path, all=True)
        assert said == freed(events) == len(other.manifest.raw) + len(other.config[1]) + 70_000
        made.hub.forget()
        await made.pull("library/alpine", made.image, "3.20")
        assert made.hub.count() == 0


async def test_what_was_named_here_stays(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        await made.tag("alpine:3.20", "team/app:1")
        events = await pruned(made, tmp_path, all=True)
        assert (of(events, "untagged", "name"), freed(events)) == ([NAME], 0)
        await made.pull("team/app", made.image, "1")


async def test_without_a_choice_only_what_has_no_name(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        old, new = made.image, made.hub.add_image("library/alpine", "3.20", seed="new")
        later(made.mirror, 3600)
        await made.pull("library/alpine", new, "3.20")
        assert await reclaimable(made) == on_disk(tmp_path)
        events = await pruned(made, tmp_path)
        assert of(events, "untagged", "name") == [f"docker.io/library/alpine@{old.digest}"]
        assert of(events, "deleted", "digest") == sorted(
            [old.digest, old.config[0], *(digest for digest, _ in old.layers)]
        )
        assert await made.api.all("/prune") == [{"event": "freed", "bytes": 0}, {"event": "end", "ok": 0, "failed": 0}]
        made.hub.forget()
        await made.pull("library/alpine", new, "3.20")
        assert made.hub.count() == 0


async def test_half_downloads_go_with_all(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        gate = Gate()
        digest = made.hub.add_blob("library/alpine", bytes(4 * SMALL))
        made.hub.script("GET */blobs/*", hang_after(2 * SMALL, gate))
        reading = begin(made.get(f"/v2/library/alpine/blobs/{digest}"))
        await until(gate.reached.is_set)
        await until(lambda: on_disk(tmp_path) > 2 * SMALL)
        open_ = on_disk(tmp_path)
        events = await made.api.all("/prune", all=True)  # what is under way is left alone
        assert open_ - freed(events) == on_disk(tmp_path) > 0
        gate.release()
        assert (await reading).status == 200


@pytest.mark.parametrize(
    "body",
    [{"keep": -1}, {"until": "yesterday"}, {"max_size": -5}, {"reference": ["[a"]}, {"colour": 1}, {"until": "NaN"}],
)
async def test_bad_requests(tmp_path: Path, body: dict[str, Any]) -> None:
    async with shop(tmp_path) as made:
        (answer,) = await made.api.all("/prune", **body)
        assert answer["status"] == 400
        assert on_disk(tmp_path)


async def test_only_who_may(tmp_path: Path) -> None:
    async with shop(tmp_path) as made, made.mirror.session.post(f"{made.mirror.url}/api/v1/prune", json={}) as response:
        assert response.status == 403
