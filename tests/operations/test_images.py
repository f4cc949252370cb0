"""The list of images: docker's columns, filters, pages, and only what he may see."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.cache.rights import SOCKET, STRANGER
from mirror.errors import ManifestUnknown, RequestInvalid
from mirror.oci.names import Reference, Repository
from mirror.operations.images import Image, PlatformEntry, Totals, Wanted
from mirror.store.protocols import Proof
from tests.operations.showing import AMD64, ARM64, NOBODYS, Showing, called, made_at
from tests.store.samples import ALPINE, NGINX, OWN, TOOL

ONE, TWO, THREE = "2024-01-01T00:00:00Z", "2024-02-01T00:00:00.123456789Z", "2024-03-01T01:00:00+01:00"


async def test_what_was_pulled_a_moment_ago_was_pulled() -> None:
    """Breaks if uses that are still in memory are not counted."""
    shown = Showing()
    await shown.hold(ALPINE, "3", config=made_at(ONE), layers=[b"layer"])
    assert (await shown.images())[0].last_pulled is None
    shown.world.uses.image(ALPINE, "3")
    assert (await shown.images())[0].last_pulled is not None


async def test_an_image_as_it_is_shown() -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, "3", config=made_at(ONE), layers=[b"own layer", b"shared"])
    await shown.hold(NGINX, "1", config=ARM64, layers=[b"shared"])
    await shown.catalog.pin(Reference(ALPINE, "3", None), "me", 1)
    await shown.catalog.touch([(ALPINE, "3")], [], 77.0)
    image = (await shown.images())[0]
    assert image == Image(
        name="alpine",
        repository="docker.io/library/alpine",
        tag="3",
        digest=str(held.digest),
        id=str(held.config),
        created=ONE,
        size=held.size,
        unique=held.size - len(b"shared"),
        last_pulled=77.0,
        pinned=True,
        origin="upstream",
        gone=False,
        complete=True,
        platforms=(
            PlatformEntry("linux/amd64", str(held.digest), str(held.config), held.size, held=True, attestation=False),
        ),
    )


async def test_an_index_has_the_id_of_this_machines_image() -> None:
    shown = Showing(host="linux/arm64")
    amd64 = await shown.hold(ALPINE, None, config=made_at(ONE), layers=[b"a"])
    arm64 = await shown.hold(ALPINE, None, config={**ARM64, "created": TWO}, layers=[b"b"])
    attests = await shown.hold(ALPINE, None, config=NOBODYS, layers=[b"statement"])
    index = await shown.index(
        ALPINE, "3", [(amd64.manifest, AMD64), (arm64.manifest, ARM64), (attests.manifest, NOBODYS, True)]
    )
    (image,) = await shown.images()
    assert (image.digest, image.id, image.created) == (str(index.descriptor.digest), str(arm64.config), TWO)
    assert image.size == index.descriptor.size + amd64.size + arm64.size + attests.size == image.unique
    assert [(each.platform, each.attestation, each.size) for each in image.platforms] == [
        ("linux/amd64", False, amd64.size), ("linux/arm64", False, arm64.size), ("unknown/unknown", True, attests.size),
    ]  # fmt: skip


async def test_gone_and_own_and_unreadable() -> None:
    shown = Showing()
    await shown.hold(ALPINE, "3")
    await shown.catalog.tag_gone(ALPINE, "3", 5)
    await shown.hold(OWN, None, config=ARM64, proof=Proof.PUSHED)
    rotten = await shown.hold(NGINX, "1", config={"n": 1})
    await shown.catalog.quarantine(rotten.digest)
    by_name = {image.name: image for image in await shown.images()}
    assert (by_name["alpine"].gone, by_name["alpine"].origin) == (True, "upstream")
    assert (by_name["team/app"].gone, by_name["team/app"].origin, by_name["team/app"].tag) == (False, "local", None)
    nginx = by_name["nginx"]
    assert (nginx.id, nginx.created, nginx.complete) == (None, None, False)
    assert nginx.size == rotten.size - rotten.manifest.descriptor.size  # what is here of it still
    assert (nginx.digest, nginx.platforms) == (str(rotten.digest), ())


async def test_a_public_name_that_an_own_one_hides_has_its_registry() -> None:
    shown = Showing(own=["alpine"])
    await shown.hold(ALPINE, "3")
    await shown.hold(Repository("local", "alpine"), "1", config=ARM64, proof=Proof.PUSHED)
    assert await shown.named() == ["docker.io/alpine:3", "alpine:1"]
    assert await shown.named(Wanted(repository="alpine")) == ["alpine:1"]
    assert await shown.named(Wanted(repository="docker.io/alpine")) == ["docker.io/alpine:3"]
    assert await shown.named(Wanted(repository="al*")) == ["alpine:1"]


# --- filters ----------------------------------------------------------------------------------------------------


async def several() -> Showing:
    shown = Showing()
    await shown.hold(ALPINE, "3.19", config=made_at(ONE, config={"Labels": {"a": "1", "b": "2"}}))
    await shown.hold(ALPINE, "3.20", config=made_at(TWO, config={"Labels": {"a": "2"}}))
    await shown.hold(NGINX, "1", config=made_at(THREE))
    await shown.hold(NGINX, None, config={"n": 1})
    await shown.hold(Repository("docker.io", "team/tool"), "1", config={"n": 2})
    return shown


ALL = ["alpine:3.19", "alpine:3.20", "nginx:1", "team/tool:1", "nginx@<none>"]


@pytest.mark.parametrize(("wanted", "expected"), [
    ({}, [0, 1, 2, 3, 4]),
    ({"repository": "nginx"}, [2, 4]),
    ({"repository": "docker.io/library/nginx"}, [2, 4]),
    ({"repository": "team/tool"}, [3]),
    ({"repository": "tool"}, []),
    ({"repository": "*/*"}, [3]),
    ({"repository": "n*"}, [2, 4]),
    ({"repository": "Nginx"}, []),
    ({"reference": "alpine:3.20"}, [1]),
    ({"reference": "alpine:3*"}, [0, 1]),
    ({"reference": "alpine:4"}, []),
    ({"repository": "nginx", "reference": "alpine:3.20"}, []),
    ({"filters": ("reference=alpine:*", "reference=team/*")}, [0, 1, 3]),
    ({"dangling": True}, [4]),
    ({"dangling": False}, [0, 1, 2, 3]),
    ({"filters": ("dangling=true",)}, [4]),
    ({"filters": ("dangling=true",), "dangling": False}, []),
    ({"filters": ("label=a",)}, [0, 1]),
    ({"filters": ("label=a=2",)}, [1]),
    ({"filters": ("label=a", "label=b=2")}, [0]),
    ({"filters": ("label=a", "label=b=3")}, []),
    ({"filters": ("before=alpine:3.20",)}, [0, 3, 4]),  # what does not say when it was made is of docker's zero time
    ({"filters": ("since=alpine:3.19",)}, [1, 2]),
    ({"filters": ("since=alpine:3.19", "before=nginx:1")}, [1]),
    ({"filters": ("until=2024-02-15T00:00:00Z",)}, [0, 1, 3, 4]),
    ({"filters": ("until=2024-02-15T00:00:00Z", "label=a", "reference=*:3.19")}, [0]),
], ids=str)  # fmt: skip
async def test_filters(wanted: dict[str, Any], expected: list[int]) -> None:
    shown = await several()
    assert await shown.named(Wanted(**wanted)) == [ALL[place] for place in expected]


async def test_by_its_digest() -> None:
    shown = await several()
    nameless = (await shown.images(Wanted(dangling=True)))[0]
    assert await shown.named(Wanted(reference=f"nginx@{nameless.digest}")) == ["nginx@<none>"]
    assert await shown.named(Wanted(reference=f"alpine@{nameless.digest}")) == []
    assert await shown.named(Wanted(reference=f"nginx@{nameless.digest[:20]}*")) == ["nginx@<none>"]


@pytest.mark.parametrize(("wanted", "error"), [
    ({"filters": ("colour=red",)}, RequestInvalid), ({"repository": "["}, RequestInvalid),
    ({"filters": ("before=nobody",)}, ManifestUnknown),
])  # fmt: skip
async def test_what_cannot_be_meant(wanted: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await Showing().images(Wanted(**wanted))
    with pytest.raises(RequestInvalid):
        await Showing().page(cursor="nonsense")


async def test_before_an_image_that_may_not_be_seen() -> None:
    shown = Showing()
    await shown.hold(TOOL, "1", config=made_at(TWO), proof=Proof.CREDENTIALS)
    await shown.hold(ALPINE, "1", config=made_at(ONE))
    wanted = Wanted(filters=("before=ghcr.io/team/tool:1",))
    assert await shown.named(wanted) == ["alpine:1"]
    with pytest.raises(ManifestUnknown):
        await shown.images(wanted, principal=STRANGER)


async def test_a_private_config_that_is_merely_named_says_nothing() -> None:
    """Breaks where a row's config is whatever has that digest: filters then tell its labels and its time."""
    shown = Showing()
    labels = {"customer": "acme"}
    secret = await shown.hold(TOOL, "1", config=made_at(TWO, config={"Labels": labels}), proof=Proof.CREDENTIALS)
    await shown.index(NGINX, "1", [(secret.manifest, AMD64)])
    (nginx,) = [each for each in await shown.images(principal=STRANGER) if each.tag == "1"]
    assert (nginx.id, nginx.created, nginx.complete, nginx.platforms[0].held) == (None, None, False, False)
    await shown.hold_manifest(ALPINE, "1", secret.manifest)
    await shown.hold(ALPINE, "old", config=made_at(ONE))
    for text in ("label=customer", "since=alpine:old"):
        assert await shown.named(Wanted(filters=(text,))) == ["ghcr.io/team/tool:1"]
        assert await shown.named(Wanted(filters=(text,)), principal=STRANGER) == []
    for each in await shown.images(principal=STRANGER):
        if each.tag == "1":  # the bytes of the manifest, which are public now, say as much
            assert (each.id, each.created, each.complete) == (str(secret.config), None, False)


async def test_what_needs_credentials_is_filtered_for_the_trusted() -> None:
    """Breaks where labels are remembered for whoever asks next."""
    shown = Showing()
    config = made_at(ONE, config={"Labels": {"a": "1"}})
    secret = await shown.hold(TOOL, "1", config=config, proof=Proof.CREDENTIALS)
    await shown.hold_manifest(TOOL, "1", secret.manifest)  # this much was public once
    wanted = Wanted(filters=("label=a",))
    for principal, found in ((SOCKET, ["ghcr.io/team/tool:1"]), (STRANGER, [])):
        assert await shown.named(wanted, principal=principal) == found


# --- pages, sight, totals ---------------------------------------------------------------------------------------


async def mixed(visible: list[bool]) -> Showing:
    """So many tags, one after the other public or not."""
    shown = Showing()
    for number, public in enumerate(visible):
        proof = Proof.ANONYMOUS if public else Proof.CREDENTIALS
        await shown.hold(TOOL, f"{number:03}", config={"n": number}, layers=[b"shared"], proof=proof)
    return shown


@given(st.lists(st.booleans(), max_size=12), st.integers(1, 5))
async def test_pages_are_complete_full_and_name_only_what_he_may_see(visible: list[bool], limit: int) -> None:
    """Fails where a cursor is the catalog's own, or a page is left short."""
    shown = await mixed(visible)
    expected = [f"ghcr.io/team/tool:{n:03}" for n, public in enumerate(visible) if public]
    found: list[str] = []
    cursor = None
    while True:
        page = await shown.page(principal=STRANGER, limit=limit, cursor=cursor)
        found += map(called, page.images)
        if page.next is None:
            break
        assert len(page.images) == limit
        assert page.totals is None
        cursor = page.next
        only = await shown.page(principal=STRANGER, limit=1, cursor=cursor)
        assert len(only.images) == 1  # there is something behind every cursor
    assert found == expected
    assert page.totals is not None
    assert page.totals.images == len(expected)


async def test_totals_count_what_is_shared_once_and_the_whole_list() -> None:
    shown = await mixed([True] * 7)
    alone = (await shown.page(limit=100)).totals
    first = await shown.page(limit=4)
    last = await shown.page(limit=4, cursor=first.next)
    sizes = [image.size or 0 for image in await shown.images()]
    assert alone == last.totals == Totals(7, sum(sizes) - 6 * len(b"shared"))
    assert (await shown.page(Wanted(reference="ghcr.io/*/tool:00[0-2]"), limit=2)).totals is None


async def test_totals_of_a_part() -> None:
    shown = await several()
    images = await shown.images(Wanted(repository="alpine"))
    expected = Totals(2, sum(image.size or 0 for image in images) - len(b"layer"))
    assert (await shown.page(Wanted(repository="alpine"))).totals == expected
    assert (await Showing().page()).totals == Totals(0, 0)


async def test_two_tags_of_one_image_are_counted_once() -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, "3")
    await shown.tag(ALPINE, "latest", held.digest)
    page = await shown.page()
    assert [(image.tag, image.unique) for image in page.images] == [("3", held.size), ("latest", held.size)]
    assert page.totals == Totals(2, held.size)


async def test_filters_that_look_inside_page_on() -> None:
    shown = Showing()
    for number in range(30):
        labels = {"third": "yes"} if number % 3 == 0 else {}
        await shown.hold(ALPINE, f"{number:02}", config=made_at(ONE, config={"Labels": labels}, n=number))
    wanted = Wanted(filters=("label=third",))
    found: list[str | None] = []
    cursor = None
    while True:
        page = await shown.page(wanted, limit=4, cursor=cursor)
        found += [image.tag for image in page.images]
        cursor = page.next
        if cursor is None:
            break
    assert found == [f"{number:02}" for number in range(0, 30, 3)]
    assert page.totals is not None
    assert page.totals.images == 10


async def test_the_socket_sees_everything() -> None:
    shown = await mixed([False, True])
    assert len(await shown.images(principal=SOCKET)) == 2
    assert len(await shown.images(principal=STRANGER)) == 1
