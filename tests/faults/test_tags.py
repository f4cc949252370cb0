"""faults.md, "tag moved upstream", "upstream removed a public image", and how tags age (design.md §5)."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.faults.support import FOREIGN_HOST, HUB, begin, cached, hub, later, stranger, until, warned
from tests.support.fake_registry import FakeRegistry, Gate
from tests.support.fake_registry.behaviours import hang, status
from tests.support.mirror import Running, mirror_in_process


async def only_here(mirror: Running) -> list[str]:
    """What `status` lists as known to nobody else any more."""
    report = json.loads((await mirror.get("/api/v1/status")).body)
    return [entry["name"] for entry in report["only_here"]]


async def test_a_moved_tag_is_seen_after_its_ttl_and_the_old_image_stays(tmp_path: Path) -> None:
    """Breaks if a tag is fresh for ever, or is asked for on every pull, or if its old manifest goes with the move."""
    async with hub(tmp_path, section={"tag_ttl": "60s"}) as (registry, mirror):
        old = registry.add_image("library/x", "1", seed="old")
        assert cached(await mirror.get("/v2/library/x/manifests/1")) == "miss"
        registry.forget()
        new = registry.add_image("library/x", "1", seed="new")
        later(mirror, 59)
        fresh = await mirror.get("/v2/library/x/manifests/1")
        assert (fresh.body, cached(fresh), registry.count()) == (old.manifest.raw, "hit", 0)
        later(mirror, 2)
        moved = await mirror.get("/v2/library/x/manifests/1")
        assert (moved.body, cached(moved)) == (new.manifest.raw, "miss")
        del registry.repository("library/x").manifests[old.digest]
        registry.forget()
        by_digest = await mirror.get(f"/v2/library/x/manifests/{old.digest}")
        assert (by_digest.body, cached(by_digest), registry.count()) == (old.manifest.raw, "hit", 0)


async def test_a_tag_that_did_not_move_costs_one_head(tmp_path: Path) -> None:
    """Breaks if a revalidation is a GET: Docker Hub counts those against the pull limit."""
    async with hub(tmp_path) as (registry, mirror):
        registry.add_image("library/x", "1")
        await mirror.get("/v2/library/x/manifests/1")
        for _ in range(3):
            registry.forget()
            later(mirror, 61)
            assert cached(await mirror.get("/v2/library/x/manifests/1")) == "revalidated"
            assert [request.line for request in registry.requests] == ["HEAD /v2/library/x/manifests/1"]
            assert cached(await mirror.get("/v2/library/x/manifests/1")) == "hit"
            assert registry.count() == 1


async def test_a_tag_moved_back_costs_one_head(tmp_path: Path) -> None:
    """Breaks if what is linked already is fetched again when a tag names it."""
    async with hub(tmp_path) as (registry, mirror):
        old = registry.add_image("library/x", "1", seed="old")
        await mirror.get("/v2/library/x/manifests/1")
        registry.add_image("library/x", "1", seed="new")
        later(mirror, 61)
        await mirror.get("/v2/library/x/manifests/1")
        registry.repository("library/x").tags["1"] = old.digest
        registry.forget()
        later(mirror, 61)
        assert (await mirror.get("/v2/library/x/manifests/1")).body == old.manifest.raw
        assert [request.method for request in registry.requests] == ["HEAD"]


async def test_immutable_tags_are_never_asked_for_again(tmp_path: Path) -> None:
    """Breaks if `immutable_tags` is matched against the wrong thing, or only where the TTL has not passed."""
    section = {"immutable_tags": [r"^v?\d+\.\d+\.\d+"]}
    async with hub(tmp_path, section=section) as (registry, mirror):
        registry.add_image("library/x", "v1.2.3")
        registry.add_image("library/x", "1.2")
        for tag in ("v1.2.3", "1.2"):
            await mirror.get(f"/v2/library/x/manifests/{tag}")
        later(mirror, 400 * 86400.0)
        registry.forget()
        assert cached(await mirror.get("/v2/library/x/manifests/v1.2.3")) == "hit"
        assert registry.count() == 0
        assert cached(await mirror.get("/v2/library/x/manifests/1.2")) == "revalidated"


async def test_a_digest_is_never_asked_for_twice(tmp_path: Path) -> None:
    """Breaks if content by digest has a TTL."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", None)
        path = f"/v2/library/x/manifests/{image.digest}"
        assert cached(await mirror.get(path)) == "miss"
        later(mirror, 400 * 86400.0)
        registry.forget()
        for method in ("GET", "HEAD"):
            assert cached(await mirror.get(path, method)) == "hit"
        assert registry.count() == 0
    async with mirror_in_process(tmp_path / "data", {HUB: registry.url}) as mirror:  # and after a restart
        assert (await mirror.get(path)).body == image.manifest.raw


async def test_a_removed_public_tag_is_kept_and_listed_as_only_here(tmp_path: Path) -> None:
    """Breaks if a 404 deletes what is held although `on_upstream_gone` is "keep", or if it is served as if nothing
    had happened."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1", layers=[1000])
        await mirror.get("/v2/library/x/manifests/1")
        await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")
        await mirror.idle()
        repository = registry.repository("library/x")
        kept = repository.tags, repository.manifests, repository.blobs
        repository.tags, repository.manifests, repository.blobs = {}, {}, {}
        later(mirror, 61)
        for _ in range(2):
            stale = await mirror.get("/v2/library/x/manifests/1")
            assert (stale.body, cached(stale)) == (image.manifest.raw, "stale")
            assert "no longer has it" in warned(stale)
        assert await only_here(mirror) == ["docker.io/library/x:1"]
        assert (await mirror.get(f"/v2/library/x/blobs/{image.layers[0][0]}")).body == image.layers[0][1]
        assert json.loads((await mirror.get("/v2/library/x/tags/list")).body)["tags"] == ["1"]
        # it comes back
        repository.tags, repository.manifests, repository.blobs = kept
        later(mirror, 61)
        back = await mirror.get("/v2/library/x/manifests/1")
        assert (back.status, warned(back)) == (200, "")
        assert await only_here(mirror) == []


async def test_a_removed_immutable_tag_is_asked_for_no_more_often_than_others(tmp_path: Path) -> None:
    """Breaks if an immutable tag is asked for at all: its registry's 404 would make it gone."""
    async with hub(tmp_path, section={"immutable_tags": ["."]}) as (registry, mirror):
        registry.add_image("library/x", "1")
        await mirror.get("/v2/library/x/manifests/1")
        registry.repository("library/x").tags.clear()
        later(mirror, 86400)
        assert cached(await mirror.get("/v2/library/x/manifests/1")) == "hit"


async def test_a_removed_tag_is_dropped_where_that_is_wanted(tmp_path: Path) -> None:
    """Breaks if `on_upstream_gone = "follow"` keeps the tag, or takes an outage for an answer."""
    async with hub(tmp_path, on_upstream_gone="follow") as (registry, mirror):
        registry.add_image("library/x", "1")
        await mirror.get("/v2/library/x/manifests/1")
        registry.script("HEAD */manifests/*", status(500))
        later(mirror, 61)
        assert cached(await mirror.get("/v2/library/x/manifests/1")) == "stale"
        registry.repository("library/x").tags.clear()
        later(mirror, 61)
        for _ in range(2):
            assert (await mirror.get("/v2/library/x/manifests/1")).status == 404
        assert (await mirror.get("/v2/library/x/tags/list")).status == 404
        assert await only_here(mirror) == []


async def test_one_revalidation_at_a_time(tmp_path: Path) -> None:
    """Breaks if each of many clients asks upstream for the same tag."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1")
        for round_ in range(2):
            registry.forget()
            gate = Gate()
            registry.script("HEAD */manifests/*", hang(gate))
            asked = asyncio.gather(*(mirror.get("/v2/library/x/manifests/1", m) for m in ["GET", "HEAD"] * 8))
            await until(gate.reached.is_set)
            gate.release()
            assert {reply.headers["Docker-Content-Digest"] for reply in await asked} == {image.digest}
            lines = [request.method for request in registry.requests]
            assert lines == (["HEAD"] if round_ else ["HEAD", "GET"])
            later(mirror, 61)


async def test_a_client_that_leaves_does_not_stop_a_revalidation(tmp_path: Path) -> None:
    """Breaks if the request's cancellation cancels the revalidation that others wait for."""
    async with hub(tmp_path) as (registry, mirror):
        image = registry.add_image("library/x", "1")
        gate = Gate()
        registry.script("HEAD */manifests/*", hang(gate))
        first = begin(mirror.get("/v2/library/x/manifests/1"))
        await until(gate.reached.is_set)
        second = begin(mirror.get("/v2/library/x/manifests/1"))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        gate.release()
        assert (await second).body == image.manifest.raw
        assert registry.count("HEAD */manifests/*") == 1


async def test_a_slow_answer_does_not_overwrite_a_newer_one(tmp_path: Path) -> None:
    """Breaks if a tag is moved without compare-and-set: the stranger's slow answer, older, would win over the owner's
    (they ask separately where there are credentials)."""
    async with FakeRegistry() as registry:
        registry.access.scheme = "bearer"
        registry.access.users["me"] = "secret"
        first = registry.add_image("library/x", "1", seed="first")
        section = {"url": registry.url, "username": "me", "password": "secret"}
        async with mirror_in_process(tmp_path / "data", {HUB: section}) as mirror:
            await mirror.get("/v2/library/x/manifests/1")
            assert (await stranger(mirror, "/v2/library/x/manifests/1")).status == 200
            second = registry.add_image("library/x", "1", seed="second")
            later(mirror, 61)
            gate = Gate()
            registry.script("HEAD */manifests/1", lambda request, answer: hang(gate)(request, answer))
            slow = begin(mirror.get("/v2/library/x/manifests/1", Host=FOREIGN_HOST))
            await until(gate.reached.is_set)  # it has the second's digest in hand
            third = registry.add_image("library/x", "1", seed="third")
            assert (await mirror.get("/v2/library/x/manifests/1")).body == third.manifest.raw
            gate.release()
            assert (await slow).body in (second.manifest.raw, third.manifest.raw)
            assert (await mirror.get("/v2/library/x/manifests/1")).body == third.manifest.raw
            assert first.digest != third.digest


@pytest.mark.parametrize("reference", ["1", "digest"])
async def test_an_index_drags_no_children_in(reference: str, tmp_path: Path) -> None:
    """Breaks if the mirror fetches more than what was asked for."""
    async with hub(tmp_path) as (registry, mirror):
        children = [registry.add_image("library/x", None, seed=str(number)) for number in range(3)]
        index = registry.add_index("library/x", "1", children)
        wanted = index.digest if reference == "digest" else reference
        assert (await mirror.get(f"/v2/library/x/manifests/{wanted}")).body == index.raw
        assert (await mirror.get(f"/v2/library/x/manifests/{children[1].digest}")).body == children[1].manifest.raw
        await mirror.idle()
        fetched = {request.path.rpartition("/")[2] for request in registry.seen("GET *")}
        assert fetched <= {index.digest, children[1].digest}
