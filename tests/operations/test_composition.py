"""What images are made of: which platform an index stands for, and what is here of it."""

import pytest

from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.operations.composition import NOTHING, Made, edges_below
from mirror.store.inventory import ImageRow
from tests.operations.showing import AMD64, ARM64, NOBODYS, Showing, made_at
from tests.store.samples import ALPINE, digest_of

ARM_V6 = {"os": "linux", "architecture": "arm", "variant": "v6"}
ARM_V7 = {"os": "linux", "architecture": "arm", "variant": "v7"}


async def made(shown: Showing, tag: str, repository: Repository = ALPINE) -> Made:
    row = await shown.catalog.image(repository, tag)
    assert row is not None
    return (await shown.composition.of([row]))[row.manifest]


async def test_a_single_image() -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, "3", config=made_at("2024-01-01T00:00:00Z"), layers=[b"1", b"22", b"22"])
    found = await made(shown, "3")
    (child,) = found.children
    assert (found.id, found.created, found.complete) == (held.config, "2024-01-01T00:00:00Z", True)
    assert (child.platform, child.manifest, child.config, child.held) == ("linux/amd64", held.digest, held.config, True)
    assert child.size == held.size - 2  # a layer twice is there once
    assert not child.attestation


@pytest.mark.parametrize(
    ("host", "chosen"),
    [
        ("linux/amd64", 0), ("linux/arm64", 1), ("linux/arm/v7", 3), ("linux/arm/v6", 2), ("linux/s390x", 0),
        ("windows/amd64", 0),
    ],
)  # fmt: skip
async def test_an_index_stands_for_this_machines_platform_or_the_first_one(host: str, chosen: int) -> None:
    """Fails where the child is chosen whatever the machine is."""
    shown = Showing(host=host)
    platforms = [AMD64, ARM64, ARM_V6, ARM_V7]
    held = [
        await shown.hold(ALPINE, None, config={**each, "created": f"2024-01-0{n + 1}T00:00:00Z"})
        for n, each in enumerate(platforms)
    ]
    attests = await shown.hold(ALPINE, None, config=NOBODYS)
    await shown.index(ALPINE, "3", [
        (attests.manifest, NOBODYS, True), *((each.manifest, p) for each, p in zip(held, platforms, strict=True)),
    ])  # fmt: skip
    found = await made(shown, "3")
    assert (found.id, found.created) == (held[chosen].config, f"2024-01-0{chosen + 1}T00:00:00Z")
    assert [child.attestation for child in found.children] == [True, False, False, False, False]
    assert [child.platform for child in found.children][1:3] == ["linux/amd64", "linux/arm64"]
    assert found.complete


async def test_what_is_not_held_is_not_chosen() -> None:
    shown = Showing()
    there = await shown.hold(ALPINE, None, config=ARM64)
    elsewhere = await Showing().hold(ALPINE, None, config=AMD64)
    await shown.index(ALPINE, "3", [(elsewhere.manifest, AMD64), (there.manifest, ARM64)])
    found = await made(shown, "3")
    assert found.id == there.config
    assert [(c.held, c.size, c.config is None) for c in found.children] == [(False, 0, True), (True, there.size, False)]
    assert found.complete  # of what is here, nothing is missing
    await shown.index(ALPINE, "4", [(elsewhere.manifest, AMD64)])
    found = await made(shown, "4")
    assert (found.id, found.created, found.complete, len(found.children)) == (None, None, False, 1)


async def test_without_a_layer_it_is_not_complete() -> None:
    shown = Showing()
    half = await shown.hold(ALPINE, "half", missing=[b"gone"])
    whole = await shown.hold(ALPINE, "whole", config=ARM64)
    assert not (await made(shown, "half")).complete
    await shown.index(ALPINE, "index", [(half.manifest, AMD64), (whole.manifest, ARM64)])
    assert not (await made(shown, "index")).complete


async def test_a_config_that_is_not_here_is_an_id_all_the_same() -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, "3")
    await shown.catalog.quarantine(held.config)
    found = await made(shown, "3")
    assert (found.id, found.created, found.complete, found.children[0].platform) == (held.config, None, False, None)


async def test_indexes_in_indexes() -> None:
    shown = Showing()
    amd64, arm64 = await shown.hold(ALPINE, None), await shown.hold(ALPINE, None, config=ARM64)
    inner = await shown.index(ALPINE, None, [(amd64.manifest, AMD64)])
    await shown.index(ALPINE, "3", [(inner, None), (arm64.manifest, ARM64)])
    found = await made(shown, "3")
    assert [(child.platform, child.manifest) for child in found.children] == [
        ("linux/amd64", amd64.digest), ("linux/arm64", arm64.digest),
    ]  # fmt: skip
    assert found.id == amd64.config


async def test_children_without_a_platform() -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, None, config=made_at("2024-01-01T00:00:00Z"))
    await shown.index(ALPINE, "3", [(held.manifest, None)])
    found = await made(shown, "3")
    assert (found.id, found.children[0].platform) == (held.config, "linux/amd64")  # the only one: its config tells


async def test_of_a_manifest_that_cannot_be_read_nothing_is_known() -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, "3")
    await shown.catalog.quarantine(held.digest)
    assert await made(shown, "3") == NOTHING


async def test_many_at_once() -> None:
    """More than one question's worth; fails where a slice is lost."""
    shown = Showing()
    rows: list[ImageRow] = []
    wanted: dict[Digest, Digest] = {}
    for number in range(450):
        held = await shown.hold(ALPINE, None, config={**AMD64, "n": number}, layers=[b"x"])
        wanted[held.digest] = held.config
    cursor = None
    while True:
        page, cursor = await shown.catalog.images(repository=None, registry=None, cursor=cursor, limit=500)
        rows += page
        if cursor is None:
            break
    found = await shown.composition.of(rows)
    assert {digest: each.id for digest, each in found.items()} == wanted


async def test_edges_of_nothing() -> None:
    assert await edges_below(Showing().catalog, []) == {}
    assert await edges_below(Showing().catalog, [digest_of("x")]) == {digest_of("x"): []}
