"""A line per image pulled: which requests belong together, and what is counted."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from mirror.cache.content import Cache
from mirror.oci.names import Repository
from mirror.server import pull_log as module
from mirror.server.pull_log import PullLog
from tests.cache.support import StillClock
from tests.server import calls

ALPINE, NGINX = Repository("docker.io", "library/alpine"), Repository("docker.io", "library/nginx")
ME, YOU = "192.0.2.1", "192.0.2.2"
DIGEST = "sha256:" + "a" * 64
QUIET = module.QUIET


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, "mirror.pulls"):
        yield caplog


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
async def pulls(clock: StillClock) -> PullLog:
    return PullLog(clock)


def fields(told: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.__dict__["fields"] for record in told.records]


def pull(
    pulls: PullLog, clock: StillClock, client: str = ME, repository: Repository = ALPINE, cache: Cache = Cache.MISS
) -> None:
    """A client's whole pull: a tag, its manifest, two blobs at once."""
    pulls.manifest(client, repository, "3", cache, 0)
    pulls.manifest(client, repository, DIGEST, cache, 500)
    begun = [pulls.begin(client, repository, cache) for _ in range(2)]
    clock.advance(1.5)
    for each in begun:
        pulls.end(each, cache, 1000)


async def test_one_pull_one_line(pulls: PullLog, clock: StillClock, told: pytest.LogCaptureFixture) -> None:
    pull(pulls, clock)
    assert told.records == []
    pulls.close()
    assert told.messages == [
        "docker.io/library/alpine:3  miss  2 blobs, 2kB served, 2.5kB from upstream, 1.5 s, to 192.0.2.1"
    ]
    assert fields(told) == [
        {
            "image": "docker.io/library/alpine:3", "cache": "miss", "blobs": 2, "served_bytes": 2000,
            "fetched_bytes": 2500, "seconds": 1.5, "client": ME, "cut_off": False,
        }
    ]  # fmt: skip
    pulls.close()
    assert len(told.records) == 1


async def test_what_was_cut_off_says_so(pulls: PullLog, told: pytest.LogCaptureFixture) -> None:
    pulls.end(pulls.begin(ME, ALPINE, Cache.MISS), Cache.MISS, 10, cut=True)
    pulls.close()
    assert told.messages[0].endswith("1 blob, 10B served, 10B from upstream, 0.0 s, to 192.0.2.1, cut off")


async def test_a_hit_costs_upstream_nothing(pulls: PullLog, clock: StillClock, told: pytest.LogCaptureFixture) -> None:
    pull(pulls, clock, cache=Cache.HIT)
    pulls.close()
    [found] = fields(told)
    assert (found["cache"], found["served_bytes"], found["fetched_bytes"]) == ("hit", 2000, 0)


async def test_one_miss_makes_it_a_miss(pulls: PullLog, clock: StillClock, told: pytest.LogCaptureFixture) -> None:
    pulls.manifest(ME, ALPINE, "3", Cache.REVALIDATED, 500)
    pulls.end(pulls.begin(ME, ALPINE, Cache.HIT), Cache.HIT, 10)
    pulls.end(pulls.begin(ME, ALPINE, Cache.MISS), Cache.MISS, 20)
    pulls.close()
    [found] = fields(told)
    assert (found["cache"], found["served_bytes"], found["fetched_bytes"]) == ("miss", 30, 20)


async def test_who_joins_somebodys_download_fetches_nothing(pulls: PullLog, told: pytest.LogCaptureFixture) -> None:
    pulls.manifest(YOU, ALPINE, "3", Cache.HIT, 500)
    pulls.end(pulls.begin(YOU, ALPINE, Cache.MISS), Cache.MISS, 1000, joined=True)
    pulls.close()
    assert [(each["served_bytes"], each["fetched_bytes"]) for each in fields(told)] == [(1000, 0)]


async def test_clients_and_repositories_are_told_apart(
    pulls: PullLog, clock: StillClock, told: pytest.LogCaptureFixture
) -> None:
    for client in (ME, YOU):
        for repository in (ALPINE, NGINX):
            pull(pulls, clock, client, repository)
    pulls.close()
    assert sorted((each["image"], each["client"]) for each in fields(told)) == [
        ("docker.io/library/alpine:3", ME),
        ("docker.io/library/alpine:3", YOU),
        ("docker.io/library/nginx:3", ME),
        ("docker.io/library/nginx:3", YOU),
    ]


@pytest.mark.parametrize(("references", "image"), [
    ([DIGEST], f"docker.io/library/alpine@{DIGEST}"),
    ([], "docker.io/library/alpine"),
    (["3", DIGEST], "docker.io/library/alpine:3"),
])  # fmt: skip
async def test_its_name(pulls: PullLog, told: pytest.LogCaptureFixture, references: list[str], image: str) -> None:
    for reference in references:
        pulls.manifest(ME, ALPINE, reference, Cache.HIT, 1)
    pulls.end(pulls.begin(ME, ALPINE, Cache.HIT), Cache.HIT, 1)
    pulls.close()
    assert [each["image"] for each in fields(told)] == [image]


async def test_a_tag_after_blobs_begins_another_pull(
    pulls: PullLog, clock: StillClock, told: pytest.LogCaptureFixture
) -> None:
    pull(pulls, clock)
    pulls.manifest(ME, ALPINE, DIGEST, Cache.HIT, 1)  # a digest does not
    assert len(told.records) == 0
    pull(pulls, clock, cache=Cache.HIT)
    assert [each["cache"] for each in fields(told)] == ["miss"]
    pulls.close()
    assert [each["cache"] for each in fields(told)] == ["miss", "hit"]


async def test_while_a_blob_is_sent_the_pull_goes_on(
    pulls: PullLog, clock: StillClock, told: pytest.LogCaptureFixture
) -> None:
    pulls.end(pulls.begin(ME, ALPINE, Cache.HIT), Cache.HIT, 1)
    active = pulls.begin(ME, ALPINE, Cache.HIT)
    pulls.manifest(ME, ALPINE, "3", Cache.HIT, 1)
    clock.advance(QUIET * 10)
    pulls._look()
    assert told.records == []
    pulls.end(active, Cache.HIT, 1)
    pulls._look()
    assert told.records == []  # it has only just ended
    clock.advance(QUIET)
    pulls._look()
    assert [each["blobs"] for each in fields(told)] == [2]
    assert pulls._timer is None  # nothing to look for any more


async def test_it_looks_by_itself(
    pulls: PullLog, clock: StillClock, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET", 0.0)
    pulls.manifest(ME, ALPINE, "3", Cache.HIT, 1)
    for _ in range(1000):
        if told.records:
            break
        await asyncio.sleep(0)
    assert [each["image"] for each in fields(told)] == ["docker.io/library/alpine:3"]


async def test_what_is_too_much_is_not_told(
    pulls: PullLog, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    for number in range(5):
        repository = Repository("docker.io", f"a/b{number}")
        pulls.manifest(ME, repository, "3", Cache.HIT, 1)
        pulls.end(pulls.begin(ME, repository, Cache.HIT), Cache.HIT, 1)
    pulls.close()
    assert len(told.records) == 2


async def test_a_pull_over_http(wire: calls.Wire, told: pytest.LogCaptureFixture) -> None:
    for target in ("manifests/3", "manifests/{image}", "blobs/{config}", "blobs/{small}", "blobs/{large}"):
        await wire.mirror.get(wire.content.filled(f"/v2/library/alpine/{target}"))
    await wire.mirror.get("/v2/library/alpine/manifests/index")
    [found] = fields(told)
    assert found["seconds"] >= 0
    blobs = 301_000 + len(wire.content.image.config[1])
    assert {key: found[key] for key in ("image", "cache", "blobs", "served_bytes", "fetched_bytes", "client")} == {
        "image": "docker.io/library/alpine:3", "cache": "miss", "blobs": 3, "served_bytes": blobs,
        "fetched_bytes": blobs + len(wire.content.image.manifest.raw), "client": "127.0.0.1",
    }  # fmt: skip
