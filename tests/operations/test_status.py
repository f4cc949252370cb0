"""The report: figures where they live, and one word for how each registry is doing."""

import json
from pathlib import Path
from typing import Any

import pytest

from mirror.cache.outbox import Waiting
from mirror.cache.policy import Policy
from mirror.cache.traffic import Traffic
from mirror.cache.transfer import Counters
from mirror.config.sizes import Reserve
from mirror.oci.names import Repository
from mirror.operations.status import Place, Status
from mirror.store.forwarding import Queued
from mirror.store.memory import MemoryCatalog
from mirror.store.protocols import Origin, Proof
from mirror.upstream.protocols import SourceState
from tests.cache.scripted import ScriptedRegistry, ScriptedUpstreams
from tests.cache.support import StillClock
from tests.store.samples import ALPINE, image


class Reporting:
    """A `Status` and everything that it reports."""

    def __init__(self, tmp_path: Path) -> None:
        self.clock = StillClock()
        self.catalog = MemoryCatalog()
        self.upstreams = ScriptedUpstreams([ScriptedRegistry("docker.io"), ScriptedRegistry("ghcr.io")], ["ghcr.io"])
        self.traffic = Traffic()
        self.sent: dict[str, Counters] = {}
        self.waiting: list[Waiting] = []
        self.policy = Policy()
        self.status = Status(
            place=Place(
                version="1.2.3",
                instance="me",
                listen=("127.0.0.1:5000",),
                data=tmp_path,
                urls={"docker.io": ("https://a", "https://b"), "ghcr.io": ("https://ghcr.io",)},
                disabled=("off.io",),
                min_free=Reserve(None, 123),
            ),
            catalog=self.catalog,
            upstreams=self.upstreams,
            traffic=self.traffic,
            outbox=self,
            sent=self.sent,
            policy=self.policy,
            clock=self.clock,
        )

    async def __call__(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(json.dumps(await self.status.report()))
        return loaded

    async def state(self) -> list[Waiting]:
        """As the outbox."""
        return self.waiting

    async def row(self, name: str) -> dict[str, Any]:
        return next(row for row in (await self())["registries"] if row["name"] == name)


@pytest.fixture
def reporting(tmp_path: Path) -> Reporting:
    return Reporting(tmp_path)


def state(registry: str = "docker.io", *, anonymous: bool = True, up: bool = True, **more: Any) -> SourceState:
    fields: dict[str, Any] = {
        "since": None, "reason": None, "retry_at": None, "pulls_left": None, "pulls_limit": None, "fetched_bytes": 0,
        **more,
    }  # fmt: skip
    return SourceState(registry, anonymous, up, **fields)


DOWN: dict[str, Any] = {"up": False, "since": 5.0, "reason": "connection refused", "retry_at": 35.0}


async def test_an_empty_mirror(reporting: Reporting, tmp_path: Path) -> None:
    report = await reporting()
    assert (report["version"], report["instance"], report["listen"]) == ("1.2.3", "me", ["127.0.0.1:5000"])
    assert (report["uptime_seconds"], report["offline"], report["only_here"]) == (0, False, [])
    free = report["data"].pop("free_bytes")
    assert free > 0
    assert report["data"].pop("reserve_bytes") == 123
    assert report["data"] == {
        "path": str(tmp_path), "blobs": 0, "bytes": 0, "repositories": 0, "tags": 0, "only_here": 0,
    }  # fmt: skip
    assert report["traffic"] == {
        "requests": 0, "hits": 0, "misses": 0, "hit_ratio": None, "served_bytes": 0, "fetched_bytes": 0,
        "saved_bytes": 0,
    }  # fmt: skip


async def test_what_is_held_and_what_only_here(reporting: Reporting) -> None:
    manifest, other = image("one"), Repository("ghcr.io", "team/tool")
    for repository in (ALPINE, other):
        await reporting.catalog.hold_manifest(repository, manifest, "x", Proof.ANONYMOUS, 1.0)
        await reporting.catalog.move_tag(repository, "3", None, manifest.descriptor.digest, Origin.UPSTREAM, 1.0, "x")
    await reporting.catalog.tag_gone(other, "3", 7.0)
    report = await reporting()
    data = report["data"]
    assert (data["blobs"], data["bytes"], data["repositories"], data["tags"], data["only_here"]) == (
        1, len(manifest.raw), 2, 2, 1,
    )  # fmt: skip
    assert report["only_here"] == [{"name": "ghcr.io/team/tool:3", "gone_at": 7.0}]


async def test_only_what_the_asker_may_know_of_is_named(reporting: Reporting) -> None:
    """Breaks if a user without a rule reads the names of private repositories from the report."""
    manifest, secret = image("one"), Repository("ghcr.io", "team/tool")
    for repository in (ALPINE, secret):
        await reporting.catalog.hold_manifest(repository, manifest, "x", Proof.ANONYMOUS, 1.0)
        await reporting.catalog.move_tag(repository, "3", None, manifest.descriptor.digest, Origin.UPSTREAM, 1.0, "x")
        await reporting.catalog.tag_gone(repository, "3", 7.0)

    async def knows(repository: Repository) -> bool:
        return repository != secret

    report = json.loads(json.dumps(await reporting.status.report(knows)))
    assert [each["name"] for each in report["only_here"]] == [f"{ALPINE}:3"]


async def test_traffic(reporting: Reporting) -> None:
    reporting.traffic.hits, reporting.traffic.misses = 3, 1
    reporting.traffic.served.update({"docker.io": 1000, "ghcr.io": 500})
    reporting.upstreams.reported = [state(fetched_bytes=300), state("ghcr.io", fetched_bytes=100)]
    reporting.clock.advance(90)
    report = await reporting()
    assert report["uptime_seconds"] == 90
    assert report["traffic"] == {
        "requests": 4, "hits": 3, "misses": 1, "hit_ratio": 0.75, "served_bytes": 1500, "fetched_bytes": 400,
        "saved_bytes": 1100,
    }  # fmt: skip
    reporting.upstreams.reported = [state(fetched_bytes=9999)]  # fetched, and nobody waited for it
    assert (await reporting())["traffic"]["saved_bytes"] == 0


async def test_what_waits_and_what_was_sent(reporting: Reporting) -> None:
    report = await reporting()
    assert (report["queue"], report["sent"]) == ({"waiting": 0, "refused": 0, "since": None}, [])
    digest = image("one").descriptor.digest
    for number, refused in ((1, False), (2, True)):
        entry = Queued(number, ALPINE, "3", digest, "docker.io", queued_at=10.0 - number, refused=refused)
        reporting.waiting.append(Waiting(entry, None))
    reporting.sent["docker.io"] = Counters()  # a dry run
    reporting.sent["ghcr.io"] = Counters(images=1, pushed=2, mounted=3, existing=4, bytes=5)
    report = await reporting()
    assert report["queue"] == {"waiting": 2, "refused": 1, "since": 8.0}
    assert report["sent"] == [{"registry": "ghcr.io", "images": 1, "blobs": 2, "mounted": 3, "existing": 4, "bytes": 5}]


@pytest.mark.parametrize(("states", "word", "reason"), [
    ([], "unknown", None),
    ([state()], "unknown", None),
    ([state(checked=True)], "ok", None),
    ([state(fetched_bytes=1)], "ok", None),
    ([state(**DOWN)], "down", "connection refused"),
    ([state(**DOWN, limited=True)], "limited", "connection refused"),
    ([state(checked=True), state(anonymous=False, **DOWN, refused=True)], "credentials refused", "connection refused"),
    ([state("ghcr.io", **DOWN), state(checked=True)], "ok", None),  # another registry's outage
])  # fmt: skip
async def test_one_word_for_each_registry(
    reporting: Reporting, states: list[SourceState], word: str, reason: str | None
) -> None:
    reporting.upstreams.reported = states
    row = await reporting.row("docker.io")
    assert (row["state"], row["reason"], row["url"]) == (word, reason, "https://a https://b")
    assert (row["since"], row["retry_at"]) == ((5.0, 35.0) if reason else (None, None))
    assert row["serving"].startswith("what is held" if reason else "everything")


async def test_pulls_left_are_those_of_whoever_knows(reporting: Reporting) -> None:
    reporting.upstreams.reported = [state(checked=True), state(anonymous=False, pulls_left=76, pulls_limit=100)]
    row = await reporting.row("docker.io")
    assert (row["pulls_left"], row["pulls_limit"]) == (76, 100)


async def test_offline(reporting: Reporting) -> None:
    reporting.policy.offline = True
    reporting.upstreams.reported = [state(**DOWN)]
    row = await reporting.row("docker.io")
    assert (row["state"], row["reason"]) == ("offline", None)
    assert (await reporting())["offline"] is True


async def test_order_credentials_and_what_is_disabled(reporting: Reporting) -> None:
    rows = (await reporting())["registries"]
    assert [(row["name"], row["state"], row["credentials"]) for row in rows] == [
        ("docker.io", "unknown", False),
        ("ghcr.io", "unknown", True),
        ("off.io", "disabled", False),
    ]
    assert rows[2]["url"] == ""
