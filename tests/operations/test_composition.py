"""What images are made of: which platform an index stands for, and what is here of it."""

import pytest

from mirror.cache.rights import LOOPBACK, SOCKET, STRANGER, Principal
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.operations.composition import NOTHING, Made, edges_below
from mirror.store.inventory import ImageRow
from mirror.store.protocols import Proof
from tests.operations.showing import AMD64, ARM64, NOBODYS, Showing, made_at
from tests.store.samples import ALPINE, NGINX, TOOL, digest_of

ONE = "2024-01-01T00:00:00Z"
ARM_V6 = {"os": "linux", "architecture": "arm", "variant": "v6"}
ARM_V7 = {"os": "linux", "architecture": "arm", "variant": "v7"}


async def made(shown: Showing, tag: str, repository: Repository = ALPINE, *, principal: Principal = SOCKET) -> Made:
    row = await shown.catalog.image(repository, tag)
    assert row is not None
    (found,) = await shown.composition.of(principal, [row])
    return found


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


async def test_what_its_repository_does_not_hold_is_not_held() -> None:
    """A manifest that merely names somebody's private config, layer or child shows nothing of it, to nobody. Breaks
    where `Edge.held` says that the bytes are anywhere."""
    shown = Showing()
    secret = await shown.hold(TOOL, "1", config=made_at(ONE), layers=[b"secret"], proof=Proof.CREDENTIALS)
    (listed,) = [each for each in await shown.images() if each.repository == str(TOOL)]
    assert listed.created == ONE  # and the catalog remembers it
    await shown.hold_manifest(ALPINE, "same", secret.manifest)
    await shown.index(ALPINE, "index", [(secret.manifest, AMD64)])
    for principal in (SOCKET, STRANGER):
        found = await made(shown, "same", principal=principal)
        (child,) = found.children
        assert (child.config_held, child.size, child.platform) == (False, secret.manifest.descriptor.size, None)
        assert (found.id, found.created, found.complete) == (secret.config, None, False)
    await shown.catalog.remove_manifest(ALPINE, secret.digest, 1, "me")
    for principal in (SOCKET, STRANGER):
        found = await made(shown, "index", principal=principal)
        (child,) = found.children
        assert (child.held, child.config, child.size) == (False, None, 0)
        assert (found.id, found.created, found.complete) == (None, None, False)


async def test_what_needs_credentials_is_held_for_the_trusted() -> None:
    """The image was public, and is private since. Breaks where a link is a link."""
    shown = Showing()
    secret = await shown.hold(TOOL, "1", config=made_at(ONE), proof=Proof.CREDENTIALS)
    await shown.hold_manifest(TOOL, "1", secret.manifest)
    for principal, created in ((SOCKET, ONE), (LOOPBACK, ONE), (STRANGER, None), (SOCKET, ONE)):
        found = await made(shown, "1", TOOL, principal=principal)
        assert (found.created, found.complete) == (created, created is not None)


async def test_what_is_public_is_held_under_any_repository() -> None:
    """Also the image of an index: docker that has it from another repository does not ask for it again. Breaks where a
    manifest is held where it is linked alone."""
    shown = Showing()
    held = await shown.hold(NGINX, "1", config=made_at(ONE))
    await shown.hold_manifest(ALPINE, "1", held.manifest)
    found = await made(shown, "1", principal=STRANGER)
    assert (found.created, found.complete) == (ONE, True)
    other = await shown.hold(NGINX, "2", config=ARM64)
    await shown.index(ALPINE, "2", [(other.manifest, ARM64)])
    found = await made(shown, "2", principal=STRANGER)
    assert (found.children[0].held, found.id, found.complete) == (True, other.config, True)


async def test_one_manifest_in_two_repositories_is_two_images() -> None:
    """Breaks where what one page has of the one is told of the other."""
    shown = Showing()
    secret = await shown.hold(TOOL, "1", config=made_at(ONE), proof=Proof.CREDENTIALS)
    await shown.hold_manifest(ALPINE, "1", secret.manifest)
    rows = [await shown.catalog.image(home, "1") for home in (ALPINE, TOOL, ALPINE)]
    found = await shown.composition.of(SOCKET, [row for row in rows if row is not None])
    assert [(each.created, each.complete) for each in found] == [(None, False), (ONE, True), (None, False)]


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
    found = await shown.composition.of(SOCKET, rows)
    assert {row.manifest: each.id for row, each in zip(rows, found, strict=True)} == wanted


async def test_edges_of_nothing() -> None:
    assert await edges_below(Showing().catalog, []) == {}
    assert await edges_below(Showing().catalog, [digest_of("x")]) == {digest_of("x"): []}
