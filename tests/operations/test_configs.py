"""What configs say: read once, never a failure."""

import asyncio
import json
from typing import Any

import pytest

from mirror.errors import StoreFailed
from mirror.oci.digest import Digest
from mirror.oci.manifest import DOCKER_CONFIG, OCI_CONFIG
from mirror.operations import configs
from mirror.operations.configs import parsed
from mirror.store.inventory import ConfigFacts, Edge
from mirror.store.protocols import Proof
from tests.operations.showing import AMD64, Held, Showing
from tests.store.samples import ALPINE, NGINX, TOOL

CREATED = "2024-05-22T18:18:12.052034407Z"


class Counting(Showing):
    """Counts what is read from the store."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[Digest] = []
        self.at_once = self.most = 0
        self.failure: Exception | None = None
        honest = self.store.read

        async def read(digest: Digest, location: str, size: int) -> bytes:
            self.read.append(digest)
            if self.failure:
                raise self.failure
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            for _ in range(3):
                await asyncio.sleep(0)
            self.at_once -= 1
            return await honest(digest, location, size)

        self.store.read = read  # type: ignore[method-assign]

    async def facts(self, *images: Held) -> dict[Digest, ConfigFacts]:
        edges = await self.catalog.edges([image.digest for image in images])
        wanted = {edge.parent: (ALPINE, edge) for edge in edges if edge.role == "config"}
        return dict(await self.configs.facts(wanted))


async def test_they_are_read_once_and_for_good() -> None:
    """Fails where `note_config` is not called."""
    shown = Counting()
    config = {**AMD64, "variant": "v2", "created": CREATED}
    held = await shown.hold(ALPINE, "3", config=config)
    expected = {held.digest: ConfigFacts(held.config, CREATED, "linux/amd64/v2")}
    assert await shown.facts(held) == expected
    assert await shown.facts(held) == expected
    assert shown.read == [held.config]
    assert await shown.catalog.configs([held.digest]) == expected


async def test_a_few_at_a_time() -> None:
    shown = Counting()
    images = [await shown.hold(ALPINE, f"{n}", config={**AMD64, "n": n}) for n in range(50)]
    assert len(await shown.facts(*images)) == 50
    assert 1 < shown.most <= configs._AT_ONCE


@pytest.mark.parametrize(("config", "created", "platform"), [
    ({}, None, ""),
    ({"created": 5, "os": "linux"}, None, ""),
    ({"created": "x" * 65, "os": "linux", "architecture": "a\n"}, None, ""),
    ({"created": "é", "os": "linux", "architecture": "s390x"}, None, "linux/s390x"),
    ({"created": "", "os": "linux", "architecture": "arm", "variant": 7}, None, "linux/arm"),
    (b"[1]", None, ""), (b"not JSON", None, ""), (b"", None, ""), (b"\xff", None, ""), (b"[" * 100_000, None, ""),
], ids=repr)  # fmt: skip
async def test_of_whatever_is_no_config_nothing_is_known(config: Any, created: str | None, platform: str) -> None:
    """And it is not read again."""
    shown = Counting()
    held = await shown.hold(ALPINE, "3", config=config)
    for _ in range(2):
        assert await shown.facts(held) == {held.digest: ConfigFacts(held.config, created, platform)}
    assert len(shown.read) == 1


@pytest.mark.parametrize(("kind", "is_read"), [
    (OCI_CONFIG, True), (DOCKER_CONFIG, True), ("application/vnd.cncf.helm.config.v1+json", False),
    ("application/vnd.oci.empty.v1+json", False),
])  # fmt: skip
async def test_artifacts_have_none(kind: str, is_read: bool) -> None:
    shown = Counting()
    held = await shown.hold(ALPINE, "3", config={"created": CREATED}, config_type=kind)
    assert bool(await shown.facts(held)) is is_read
    assert bool(shown.read) is is_read


async def test_a_rotten_one_is_quarantined_and_nothing_fails() -> None:
    shown = Counting()
    held, other = await shown.hold(ALPINE, "3"), await shown.hold(ALPINE, "4", config={**AMD64, "n": 1})
    shown.store.blobs[f"memory/{held.config}"] = b"rotten"
    assert list(await shown.facts(held, other)) == [other.digest]
    assert await shown.catalog.holding(ALPINE, held.config, is_manifest=False) is None
    assert await shown.configs.document(ALPINE, held.config) is None
    assert await shown.configs.labels(ALPINE, held.config) == {}


async def test_a_disk_that_fails_is_asked_again() -> None:
    shown = Counting()
    held = await shown.hold(ALPINE, "3")
    shown.failure = StoreFailed("EIO")
    assert await shown.facts(held) == {}
    shown.failure = None
    assert list(await shown.facts(held)) == [held.digest]


async def test_one_that_is_not_held_is_not_read() -> None:
    shown = Counting()
    held = await shown.hold(ALPINE, "3")
    edge = Edge(held.digest, 0, held.config, "config", OCI_CONFIG, 5, None, held=False)
    assert await shown.configs.facts({held.digest: (ALPINE, edge)}) == {}
    assert shown.read == []


async def test_labels_are_kept_in_memory() -> None:
    shown = Counting()
    labels = {"a": "1", "b": 2, "c": None}
    held = await shown.hold(ALPINE, "3", config={"config": {"Labels": labels}})
    for _ in range(2):
        assert await shown.configs.labels(ALPINE, held.config) == {"a": "1"}
    assert len(shown.read) == 1
    odd_ones: list[dict[str, Any]] = [{"config": []}, {"config": {"Labels": []}}, {"config": None}, {}]
    for number, wrong in enumerate(odd_ones):
        odd = await shown.hold(ALPINE, f"odd{number}", config=wrong)
        assert await shown.configs.labels(ALPINE, odd.config) == {}


async def test_a_config_is_read_for_who_holds_it_or_if_it_is_public() -> None:
    """Breaks where `_read` takes whatever the store has, or labels are kept by the config alone."""
    shown = Counting()
    config = {"config": {"Labels": {"a": "1"}}}
    held = await shown.hold(TOOL, "1", config=config, proof=Proof.CREDENTIALS)
    assert await shown.configs.labels(TOOL, held.config) == {"a": "1"}
    for _ in range(2):
        assert await shown.configs.labels(ALPINE, held.config) == {}
        assert await shown.configs.document(ALPINE, held.config) is None
    await shown.blob(NGINX, json.dumps(config).encode())
    assert await shown.configs.document(ALPINE, held.config) == config
    assert await shown.configs.labels(ALPINE, held.config) == {"a": "1"}  # that there were none was not kept


async def test_what_is_noted_of_one_that_he_may_not_see_is_not_said() -> None:
    shown = Counting()
    held = await shown.hold(ALPINE, "3")
    assert list(await shown.facts(held)) == [held.digest]
    edge = Edge(held.digest, 0, held.config, "config", OCI_CONFIG, 5, None, held=False)
    assert await shown.configs.facts({held.digest: (ALPINE, edge)}) == {}


async def test_documents_can_be_written_again() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    raw = json.dumps({"half": "\ud800", "\udfff": 1, "deep": deep, "n": [1, 2.5, None, True]}).encode()
    value = await parsed(raw)
    assert isinstance(value, dict)
    assert (value["half"], value["?"], value["n"]) == ("?", 1, [1, 2.5, None, True])
    json.dumps(value, ensure_ascii=False).encode()
    large = await parsed(json.dumps(["é" * 100] * 1000).encode())
    assert large == ["é" * 100] * 1000
