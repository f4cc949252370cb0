"""Layers, and who shares them: as far as he may know."""

import pytest

from mirror.cache.rights import SOCKET, STRANGER
from mirror.errors import ManifestUnknown
from mirror.oci.digest import Digest
from mirror.store.protocols import Proof
from tests.operations.showing import AMD64, ARM64, Showing
from tests.store.samples import ALPINE, NGINX, TOOL


async def test_who_shares_which_layer() -> None:
    """Fails where `Sight.sees` is not asked: then the stranger is told of ghcr.io/team/tool."""
    shown = Showing()
    held = await shown.hold(ALPINE, "3", layers=[b"own", b"base"], missing=[b"not here"])
    await shown.tag(ALPINE, "latest", held.digest)
    await shown.hold(NGINX, "1", config={"n": 1}, layers=[b"base"], missing=[b"not here"])
    nameless = await shown.hold(NGINX, None, config={"n": 2}, layers=[b"base"])
    await shown.hold(TOOL, "1", config={"n": 3}, layers=[b"base"], proof=Proof.CREDENTIALS)
    public = ["docker.io/library/nginx:1", f"docker.io/library/nginx@{nameless.digest}"]
    for principal, base in ((SOCKET, [public[0], "ghcr.io/team/tool:1", public[1]]), (STRANGER, public)):
        found = (await shown.layers.of(principal, "alpine:3", None)).layers
        assert [(layer.digest, list(layer.shared_with)) for layer in found] == [
            (str(Digest.of(b"own")), []),
            (str(Digest.of(b"base")), base),
            (str(Digest.of(b"not here")), ["docker.io/library/nginx:1"]),
        ]
        assert [(layer.size, layer.held) for layer in found] == [(3, True), (4, True), (8, False)]


async def test_of_an_index_those_of_one_platform() -> None:
    shown = Showing()
    amd64 = await shown.hold(ALPINE, None, layers=[b"amd64", b"both", b"both"])
    arm64 = await shown.hold(ALPINE, None, config=ARM64, layers=[b"arm64", b"both"])
    await shown.index(ALPINE, "3", [(amd64.manifest, AMD64), (arm64.manifest, ARM64)])
    found = (await shown.layers.of(SOCKET, "alpine:3", None)).layers
    assert [layer.digest for layer in found] == [str(Digest.of(text)) for text in (b"amd64", b"both", b"both")]
    assert not any(layer.shared_with for layer in found)  # it is one image, however many platforms it has
    found = (await shown.layers.of(SOCKET, "alpine:3", "linux/arm64")).layers
    assert [layer.digest for layer in found] == [str(Digest.of(text)) for text in (b"arm64", b"both")]
    assert not any(layer.shared_with for layer in found)


async def test_what_another_repository_holds_is_not_held_here() -> None:
    """Breaks where `edges` is asked: whoever names a private layer, or image, learns that it is here, and of what."""
    shown = Showing()
    secret = await shown.hold(TOOL, "1", layers=[b"secret"], proof=Proof.CREDENTIALS)
    await shown.hold(ALPINE, "mine", config={"n": 1}, layers=[b"mine"], missing=[b"secret"])
    await shown.index(NGINX, "1", [(secret.manifest, AMD64)])
    for principal, shared in ((SOCKET, ("ghcr.io/team/tool:1",)), (STRANGER, ())):
        found = (await shown.layers.of(principal, "alpine:mine", None)).layers
        assert [(layer.held, layer.shared_with) for layer in found] == [(True, ()), (False, shared)]  # not by the index
        assert (await shown.layers.of(principal, "nginx:1", None)).layers == ()


async def test_an_index_of_which_no_image_is_held_has_none() -> None:
    shown = Showing()
    elsewhere = await Showing().hold(ALPINE, None)
    await shown.index(ALPINE, "3", [(elsewhere.manifest, AMD64)])
    assert (await shown.layers.of(SOCKET, "alpine:3", None)).layers == ()
    with pytest.raises(ManifestUnknown):
        await shown.layers.of(SOCKET, "alpine:4", None)
