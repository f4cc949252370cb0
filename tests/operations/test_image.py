"""One image, whole: by any name it has, for any platform that is held."""

import json

import pytest

from mirror.cache.rights import LOOPBACK, SOCKET, STRANGER, Principal
from mirror.errors import ManifestUnknown, RequestInvalid
from mirror.oci.names import Reference
from mirror.operations.image import ImageDetail, Layer
from mirror.store.protocols import Proof
from tests.operations.showing import AMD64, ARM64, NOBODYS, Held, Showing, made_at
from tests.store.samples import ALPINE, NGINX, TOOL


async def look(shown: Showing, text: str, platform: str | None = None, principal: Principal = SOCKET) -> ImageDetail:
    return await shown.inspection.image(principal, text, platform)


async def two_platforms(shown: Showing) -> tuple[Held, Held, str]:
    """alpine:3 for two platforms, with attestations; the index's digest with them."""
    amd64 = await shown.hold(ALPINE, None, config=made_at("2024-01-01T00:00:00Z"), layers=[b"a", b"shared"])
    arm64 = await shown.hold(ALPINE, None, config={**ARM64, "created": "2024-02-01T00:00:00Z"}, layers=[b"shared"])
    attests = await shown.hold(ALPINE, None, config=NOBODYS, layers=[b"statement"])
    odd = await shown.hold(ALPINE, None, config={**NOBODYS, "n": 1})
    index = await shown.index(
        ALPINE,
        "3",
        [
            (amd64.manifest, AMD64),
            (arm64.manifest, ARM64),
            (attests.manifest, NOBODYS, True),
            (odd.manifest, NOBODYS),
        ],
    )
    return amd64, arm64, str(index.descriptor.digest)


async def test_a_single_image() -> None:
    shown = Showing()
    config = made_at("2024-01-01T00:00:00Z", history=[{"created_by": "ADD x"}], config={"Env": ["A=1"]})
    held = await shown.hold(ALPINE, "3", config=config, layers=[b"a"], missing=[b"bb"])
    await shown.tag(ALPINE, "latest", held.digest)
    for owner, reference in (("me", Reference(ALPINE, "3", None)), ("you", Reference(ALPINE, None, held.digest))):
        await shown.catalog.pin(reference, owner, 1)
    await shown.catalog.pin(Reference(ALPINE, "latest", None), "them", 1)
    found = await look(shown, "alpine:3")
    assert (found.name, found.tag, found.digest, found.id) == ("alpine", "3", str(held.digest), str(held.config))
    assert found.manifest == json.loads(held.manifest.raw)
    assert found.config == config
    assert found.media_type == held.manifest.descriptor.media_type
    assert [(layer.size, layer.held) for layer in found.layers] == [(1, True), (2, False)]
    assert found.layers[0] == Layer(
        str(held.manifest.children()[1].descriptor.digest), 1, found.layers[0].media_type, True
    )
    assert found.children == ()
    assert found.tags == ("docker.io/library/alpine:3", "docker.io/library/alpine:latest")
    assert found.pins == ("me", "you")
    assert found.pinned
    assert not found.complete
    (shown_in_list,) = [each for each in await shown.images() if each.tag == "3"]
    assert (found.size, found.unique, found.platforms) == (
        shown_in_list.size, shown_in_list.unique, shown_in_list.platforms,
    )  # fmt: skip


async def test_an_index_with_what_this_machine_runs() -> None:
    shown = Showing()
    amd64, arm64, digest = await two_platforms(shown)
    found = await look(shown, "alpine:3")
    assert (found.digest, found.id) == (digest, str(amd64.config))
    assert found.manifest is not None
    assert len(found.manifest["manifests"]) == 4
    assert found.config is not None
    assert found.config["architecture"] == "amd64"
    assert [layer.size for layer in found.layers] == [1, 6]
    assert found.children == found.platforms
    assert [each.id for each in found.children][:2] == [str(amd64.config), str(arm64.config)]
    assert [each.attestation for each in found.children] == [
        False,
        False,
        True,
        False,
    ]  # without the annotation it is none


@pytest.mark.parametrize("by", ["platform", "config", "manifest"])
async def test_another_platform(by: str) -> None:
    """Fails where an ID of a platform that is not this machine's shows this machine's image."""
    shown = Showing()
    _, arm64, _ = await two_platforms(shown)
    text = {"platform": "alpine:3", "config": arm64.config.short, "manifest": str(arm64.digest)}[by]
    found = await look(shown, text, "linux/aarch64" if by == "platform" else None)
    assert (found.digest, found.id, found.created) == (str(arm64.digest), str(arm64.config), "2024-02-01T00:00:00Z")
    assert found.manifest == json.loads(arm64.manifest.raw)
    assert found.config is not None
    assert found.config["architecture"] == "arm64"
    assert [each.platform for each in found.platforms] == ["linux/arm64"]
    assert (found.children, found.size) == ((), arm64.size)
    assert "docker.io/library/alpine:3" in found.tags


async def test_a_platform_that_anybody_may_read_elsewhere() -> None:
    """docker had it from there. Breaks where its config is shown and its manifest is not."""
    shown = Showing()
    held = await shown.hold(NGINX, "1", config=ARM64)
    await shown.index(ALPINE, "3", [(held.manifest, ARM64)])
    found = await look(shown, "alpine:3", "linux/arm64", STRANGER)
    assert (found.manifest, found.media_type) == (json.loads(held.manifest.raw), held.manifest.descriptor.media_type)
    assert found.config is not None
    assert found.tags == ("docker.io/library/alpine:3", "docker.io/library/nginx:1")


async def test_a_platform_that_is_not_held() -> None:
    shown = Showing()
    await two_platforms(shown)
    with pytest.raises(ManifestUnknown, match=r"alpine:3 is held, but not for the platform linux/s390x") as caught:
        await look(shown, "alpine:3", "linux/s390x")
    assert caught.value.exit_code == 4
    with pytest.raises(RequestInvalid):
        await look(shown, "alpine:3", "a/b/c/d")
    await shown.hold(NGINX, "1", config=AMD64)
    assert (await look(shown, "nginx:1", "linux/amd64")).tag == "1"
    with pytest.raises(ManifestUnknown):
        await look(shown, "nginx:1", "linux/arm64")


async def test_tags_are_those_of_its_id_as_in_docker() -> None:
    shown = Showing()
    await two_platforms(shown)
    amd64 = await shown.hold(NGINX, "alone", config=made_at("2024-01-01T00:00:00Z"), layers=[b"a", b"shared"])
    assert (await look(shown, "nginx:alone")).id == str(amd64.config)
    assert (await look(shown, "nginx:alone")).tags == ("docker.io/library/alpine:3", "docker.io/library/nginx:alone")


async def test_names_that_he_may_not_see_are_left_out() -> None:
    shown = Showing()
    await shown.hold(ALPINE, "3")
    held = await shown.hold(TOOL, "1", proof=Proof.CREDENTIALS)
    assert (await look(shown, "alpine:3")).tags == ("docker.io/library/alpine:3", "ghcr.io/team/tool:1")
    assert (await look(shown, "alpine:3", principal=STRANGER)).tags == ("docker.io/library/alpine:3",)
    with pytest.raises(ManifestUnknown):
        await look(shown, f"ghcr.io/team/tool@{held.digest}", principal=STRANGER)


@pytest.mark.parametrize("principal", [SOCKET, STRANGER], ids=lambda each: str(each.role))
async def test_what_is_merely_named_is_not_shown(principal: Principal) -> None:
    """A public manifest that has somebody's private config, an index that has his image. Breaks where a config is read
    whoever holds it, or a child is held wherever it is: both show the password."""
    shown = Showing()
    config = made_at("2024-01-01T00:00:00Z", config={"Env": ["PASSWORD=hunter2"]})
    secret = await shown.hold(TOOL, "1", config=config, layers=[b"secret"], proof=Proof.CREDENTIALS)
    assert (await look(shown, "ghcr.io/team/tool:1")).config == config
    await shown.index(ALPINE, "1", [(secret.manifest, AMD64)])
    found = await look(shown, "alpine:1", principal=principal)
    assert (found.config, found.created, found.id, found.layers) == (None, None, None, ())
    assert [(each.held, each.id, each.size) for each in found.children] == [(False, None, 0)]
    with pytest.raises(ManifestUnknown):
        await look(shown, "alpine:1", "linux/amd64", principal)
    await shown.hold_manifest(NGINX, "1", secret.manifest)  # what it says is public now, not what it names
    for name in ("nginx:1", "alpine:1"):
        found = await look(shown, name, principal=principal)
        assert (found.id, found.config, found.created, found.complete) == (str(secret.config), None, None, False)
        assert [layer.held for layer in found.layers] == [False]


async def test_what_needs_credentials_is_shown_to_the_trusted() -> None:
    shown = Showing()
    secret = await shown.hold(TOOL, "1", config=made_at("2024-01-01T00:00:00Z"), proof=Proof.CREDENTIALS)
    await shown.hold_manifest(TOOL, "1", secret.manifest)  # this much was public once
    assert (await look(shown, "ghcr.io/team/tool:1", principal=LOOPBACK)).config is not None
    found = await look(shown, "ghcr.io/team/tool:1", principal=STRANGER)
    assert (found.config, found.created, [layer.held for layer in found.layers]) == (None, None, [False])


async def test_an_artifact() -> None:
    shown = Showing()
    chart = {"name": "chart", "version": "1"}
    held = await shown.hold(
        ALPINE, "chart", config=chart, layers=[b"tgz"], config_type="application/vnd.cncf.helm.config.v1+json"
    )
    found = await look(shown, "alpine:chart")
    assert (found.created, found.id, found.config) == (None, str(held.config), chart)
    assert [each.platform for each in found.platforms] == [""]
    assert len(found.layers) == 1


@pytest.mark.parametrize("rotten", ["config", "manifest"])
async def test_what_is_damaged_is_shown_as_far_as_it_is_known(rotten: str) -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, "3")
    digest = held.config if rotten == "config" else held.digest
    shown.store.blobs[f"memory/{digest}"] = b"rotten"
    found = await look(shown, "alpine:3")
    assert found.digest == str(held.digest)
    assert getattr(found, rotten) is None
    assert found.tag == "3"


async def test_odd_documents_can_be_sent() -> None:
    shown = Showing()
    await shown.hold(ALPINE, "3", config=json.dumps({"config": {"Labels": {"a": "\ud800"}}}).encode())
    found = await look(shown, "alpine:3")
    assert found.config == {"config": {"Labels": {"a": "?"}}}


async def test_no_such_image() -> None:
    with pytest.raises(ManifestUnknown, match=r"^No such image: alpine:latest$"):
        await look(Showing(), "alpine")
