"""faults.md, "429": nothing sent before `Retry-After`; known images unaffected."""

import json
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.faults.support import HUB, MIB, cached, client, hub, later, until, warned
from tests.support.fake_registry import FakeRegistry, Request
from tests.support.fake_registry.behaviours import close_after, limited
from tests.support.fake_registry.content import random_bytes
from tests.support.mirror import mirror_in_process

LIMITS = {
    "seconds": ("90", 90),
    "no header": (None, 60),
    "nonsense": ("soon", 60),
    "a date": ("date", 120),
    "beyond six hours": ("999999", 6 * 3600),
}


@pytest.mark.parametrize("name", LIMITS)
async def test_nothing_is_sent_before_retry_after(name: str, tmp_path: Path) -> None:
    """Breaks if `Retry-After` is ignored, or believed for ever: then a pull limit is never over."""
    header, seconds = LIMITS[name]
    async with hub(tmp_path) as (registry, mirror):
        held = registry.add_image("library/held", "1", layers=[MIB])
        layer = held.layers[0]
        await mirror.get("/v2/library/held/manifests/1")
        await mirror.get(f"/v2/library/held/blobs/{layer[0]}")
        await mirror.idle()
        later(mirror, 3600)
        if header == "date":
            header = formatdate(mirror.clock.wall() + seconds + 1, usegmt=True)
        registry.add_image("library/x", "1")
        registry.script("*/manifests/*", limited(header))
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 404
        registry.forget()
        for _ in range(2):
            # what is known is unaffected
            stale = await mirror.get("/v2/library/held/manifests/1")
            assert (stale.body, cached(stale)) == (held.manifest.raw, "stale")
            assert "limits our requests" in warned(stale)
            assert cached(await mirror.get(f"/v2/library/held/manifests/{held.digest}")) == "hit"
            assert cached(await mirror.get(f"/v2/library/held/blobs/{layer[0]}")) == "hit"
            # and nothing else gets through
            for path in ("x/manifests/1", "y/manifests/2", f"x/blobs/sha256:{'1' * 64}", "x/tags/list"):
                assert (await mirror.get(f"/v2/library/{path}")).status == 404
            later(mirror, seconds / 2 - 2)
        assert registry.count() == 0
        row = json.loads((await mirror.get("/api/v1/status")).body)["registries"][0]
        assert row["state"] == "limited"
        later(mirror, 8)
        assert (await mirror.get("/v2/library/x/manifests/1")).status == 200
        assert cached(await mirror.get("/v2/library/held/manifests/1")) == "revalidated"


async def test_a_blob_under_way_waits_for_the_limit_to_end(tmp_path: Path) -> None:
    """Breaks if a flight that broke asks on through a 429, or gives its readers up at once."""
    async with hub(tmp_path) as (registry, mirror):
        layer = random_bytes("limit", 2 * MIB)
        digest = registry.add_blob("library/x", layer)
        registry.script("GET */blobs/*", close_after(MIB))
        registry.script("GET */blobs/*", limited("30"))
        async with client(mirror, f"/v2/library/x/blobs/{digest}") as reader:
            body = await reader.read(MIB - 65536)
            await until(lambda: any(state.limited for state in mirror.app.upstreams.states()))
            later(mirror, 31)
            assert body + await reader.read(MIB + 65536) == layer
        assert registry.count("GET */blobs/*") == 3


async def test_a_limit_of_the_anonymous_is_not_one_of_the_credentials(tmp_path: Path) -> None:
    """Breaks if a 429 is noted by registry and not by source: strangers who use up the anonymous limit of this
    address would block the owner's pulls."""
    async with FakeRegistry() as registry:
        image = registry.add_image("library/x", "1")
        registry.access.scheme = "bearer"
        registry.access.users["me"] = "secret"
        section = {"url": registry.url, "username": "me", "password": "secret"}
        async with mirror_in_process(tmp_path / "data", {HUB: section}) as mirror:

            def anonymous(request: Request) -> bool:
                token = request.headers.get("Authorization", "").rpartition(" ")[2]
                return token in registry.access.tokens and registry.access.tokens[token].user is None

            registry.script(anonymous, limited("600"), times=None)
            stranger = await mirror.get("/v2/library/x/manifests/1", Host="mirror.example")
            assert stranger.status == 404
            mine = await mirror.get("/v2/library/x/manifests/1")
            assert (mine.status, mine.body) == (200, image.manifest.raw)
