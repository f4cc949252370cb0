"""`POST /api/v1/pull` against a scripted registry: whom it asks, and whom not."""

from pathlib import Path

from tests.faults.support import later
from tests.operations.pictures import layout_index
from tests.operations.streams import Upstream, execute, of, one
from tests.support.fake_registry.behaviours import status

NAME = "docker.io/library/alpine:3"
BLOBS = "GET */blobs/*"


async def test_if_missing_asks_nothing_about_what_is_whole(upstream: Upstream, tmp_path: Path) -> None:
    registry, _, api = upstream
    index = layout_index(tmp_path / "layout")
    registry.add_layout_image("library/alpine", "3", index)
    await api.pull("alpine:3", platforms=["linux/arm64"])
    registry.forget()
    kept = await api.pull("alpine:3", platforms=["linux/arm64"], if_missing=True)
    assert one(kept, "pulled")["status"] == "up_to_date"
    assert registry.count() == 0
    more = await api.pull("alpine:3", platforms=["linux/amd64"], if_missing=True)
    assert one(more, "pulled")["status"] == "newer"
    assert registry.count() > 0


async def test_all_tags(upstream: Upstream) -> None:
    registry, _, api = upstream
    for tag in ("1", "2", "3"):
        registry.add_image("library/alpine", tag, seed=tag)
    events = await api.pull("alpine", all_tags=True)
    assert {event["name"] for event in of(events, "pulled")} == {f"docker.io/library/alpine:{n}" for n in "123"}
    assert events[-1] == {"event": "end", "ok": 3, "failed": 0}
    del registry.content.repository("library/alpine").tags["2"]
    later(upstream[1], 1000)
    events = await api.pull("alpine", all_tags=True)  # what is only here is no failure: its registry does not list it
    assert events[-1] == {"event": "end", "ok": 2, "failed": 0}
    refused = one(await api.pull("alpine:3", all_tags=True), "error")
    assert (refused["exit_code"], refused["name"]) == (2, "alpine:3")
    assert one(await api.pull("nothing", all_tags=True), "error")["exit_code"] == 4


async def test_pinned_when_it_is_here(upstream: Upstream, tmp_path: Path) -> None:
    registry, _, api = upstream
    registry.add_image("library/alpine", "3")
    await api.pull("alpine:3", "nothing:1", pin=True)
    assert execute(tmp_path / "data", "SELECT reference, owner FROM pins") == [("3", "user")]


async def test_the_mirrors_own_images_come_from_nowhere(upstream: Upstream) -> None:
    registry, _, api = upstream
    registry.add_image("library/alpine", "3")
    await api.pull("alpine:3")
    assert await api.all("/tag", source="alpine:3", target="alpine:mine") != []
    registry.script("*", status(503), times=None)
    before = registry.count()
    events = await api.pull("alpine:mine")  # set here by hand: its registry is not asked about it
    assert (one(events, "pulled")["status"], registry.count()) == ("up_to_date", before)
    registry.unscript()
    assert (await api.all("/tag", source="alpine:3", target="team/app:1"))[0].get("status") is None
    registry.forget()
    events = await api.pull("team/app:1", "team/app:2")
    assert one(events, "pulled")["name"] == "local/team/app:1"
    assert "this mirror's own" in one(events, "note")["message"]
    error = one(events, "error")
    assert (error["name"], error["exit_code"]) == ("local/team/app:2", 4)
    assert "this mirror's own: no registry has it" in error["message"]
    assert {event["name"] for event in of(await api.pull("team/app", all_tags=True), "pulled")} == {"local/team/app:1"}
    assert registry.count() == 0


async def test_all_tags_without_the_registry(upstream: Upstream) -> None:
    registry, mirror, api = upstream
    registry.add_image("library/alpine", "3")
    await api.pull("alpine:3")
    registry.script("*", status(503), times=None)
    assert one(await api.pull("alpine", all_tags=True), "error")["exit_code"] == 1
    assert one(await api.pull("alpine", all_tags=True, if_missing=True), "pulled")["name"] == NAME
    mirror.app.policy.offline = True
    assert one(await api.pull("alpine", all_tags=True), "pulled")["name"] == NAME
    assert one(await api.pull("other", all_tags=True), "error")["exit_code"] == 9
