"""`GET /api/v1/df`: each byte in one line, and what lies on the disk is what is told."""

from pathlib import Path
from typing import Any

from mirror.cache.flight import SMALL
from tests.faults.support import begin, until
from tests.server.api.naming import Shop, shop
from tests.server.api.test_prune import on_disk
from tests.support.fake_registry import Gate
from tests.support.fake_registry.behaviours import hang_after


async def types(made: Shop) -> dict[str, dict[str, Any]]:
    answer = await made.api.ask("GET", "/df")
    assert answer["images"] == []
    return {each["type"]: each for each in answer["types"]}


async def test_what_sharing_saves(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        shared = made.image.layers[0][1]
        other = made.hub.add_image("library/other", "1", layers=[shared, 70_000], seed="other")
        await made.pull("library/other", other, "1")
        await made.tag("alpine:3.20", "team/app:1")
        one = sum(map(len, (made.image.manifest.raw, made.image.config[1], *(raw for _, raw in made.image.layers))))
        two = sum(map(len, (other.manifest.raw, other.config[1], *(raw for _, raw in other.layers))))
        found = await types(made)
        assert list(found) == ["Images", "Loose layers", "Staging", "Catalog"]
        images = found["Images"]
        assert images == {
            "type": "Images",
            "total": 3,
            "active": 1,  # its own name
            "logical": 2 * one + two,
            "on_disk": one + two - len(shared),
            "saved": one + len(shared),
            "reclaimable": two - len(shared),
        }
        assert images["on_disk"] == on_disk(tmp_path)
        assert (found["Loose layers"]["total"], found["Staging"]["total"]) == (0, 0)
        assert found["Catalog"]["on_disk"] == sum(
            file.stat().st_size for file in (tmp_path / "data").glob("mirror.db*")
        )


async def test_what_belongs_to_no_image_and_what_is_under_way(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        digest = made.hub.add_blob("library/alpine", b"loose")
        assert (await made.get(f"/v2/library/alpine/blobs/{digest}")).body == b"loose"
        await made.mirror.idle()
        gate = Gate()
        half = made.hub.add_blob("library/alpine", bytes(4 * SMALL))
        made.hub.script("GET */blobs/*", hang_after(2 * SMALL, gate))
        reading = begin(made.get(f"/v2/library/alpine/blobs/{half}"))
        await until(gate.reached.is_set)
        await until(lambda: on_disk(tmp_path) > 2 * SMALL)
        found = await types(made)
        assert found["Loose layers"] == {
            "type": "Loose layers", "total": 1, "active": 0, "logical": 5, "on_disk": 5, "saved": 0, "reclaimable": 5,
        }  # fmt: skip
        staging = found["Staging"]
        assert (staging["total"], staging["active"], staging["reclaimable"]) == (1, 1, 0)
        assert sum(found[name]["on_disk"] for name in ("Images", "Loose layers", "Staging")) == on_disk(tmp_path)
        gate.release()
        await reading


async def test_with_each_image(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        answer = await made.api.ask("GET", "/df?verbose=true")
        (image,) = answer["images"]
        assert (image["name"], image["tag"], image["size"]) == ("alpine", "3.20", on_disk(tmp_path))
        assert image == (await made.api.ask("GET", "/images"))["images"][0]


async def test_bad_requests(tmp_path: Path) -> None:
    async with shop(tmp_path) as made:
        assert (await made.api.ask("GET", "/df?verbose=perhaps"))["status"] == 400
        assert (await made.api.ask("GET", "/df?colour=red"))["status"] == 400
