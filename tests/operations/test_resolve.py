"""What a person's text means: names before IDs, and only what he may see."""

import json

import pytest

from mirror.cache.rights import SOCKET, STRANGER
from mirror.errors import ManifestUnknown, RequestInvalid
from mirror.oci.digest import Digest
from mirror.oci.names import Repository
from mirror.operations.resolve import Meaning
from mirror.store.protocols import Proof
from tests.operations.showing import AMD64, ARM64, Showing
from tests.store.samples import ALPINE, NGINX, TOOL

OWN = Repository("local", "alpine")


def named(meaning: Meaning) -> list[str]:
    return [f"{row.repository}:{row.tag}" if row.tag else f"{row.repository}@{row.manifest}" for row in meaning.rows]


@pytest.mark.parametrize(
    "text", ["alpine:3", "library/alpine:3", "docker.io/alpine:3", "index.docker.io/library/alpine:3"]
)
async def test_a_name_in_any_form(text: str) -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, "3")
    meaning = await shown.resolver.find(SOCKET, text)
    assert named(meaning) == ["docker.io/library/alpine:3"]
    assert (meaning.rows[0].manifest, meaning.by_id, meaning.identity) == (held.digest, False, None)
    assert str(meaning.reference) == "docker.io/library/alpine:3"


async def test_without_a_tag_it_is_latest() -> None:
    shown = Showing()
    await shown.hold(ALPINE, "latest")
    assert named(await shown.resolver.find(SOCKET, "alpine")) == ["docker.io/library/alpine:latest"]


async def test_an_own_name_hides_the_public_one() -> None:
    shown = Showing(own=["alpine"])
    await shown.hold(ALPINE, "3")
    await shown.hold(ALPINE, "only-there")
    await shown.hold(OWN, "3", config=ARM64, proof=Proof.PUSHED)
    assert named(await shown.resolver.find(SOCKET, "alpine:3")) == ["local/alpine:3"]
    assert named(await shown.resolver.find(SOCKET, "docker.io/alpine:3")) == ["docker.io/library/alpine:3"]
    with pytest.raises(ManifestUnknown, match=r"^No such image: alpine:only-there$"):
        await shown.resolver.find(SOCKET, "alpine:only-there")  # once own, always own


async def test_a_digest_in_its_repository_only() -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, "3")
    await shown.tag(ALPINE, "latest", held.digest)
    text = f"alpine:ignored@{held.digest}"
    assert named(await shown.resolver.find(SOCKET, text)) == [
        "docker.io/library/alpine:3", "docker.io/library/alpine:latest",
    ]  # fmt: skip
    with pytest.raises(ManifestUnknown, match="No such image: nginx@sha256:"):
        await shown.resolver.find(SOCKET, f"nginx@{held.digest}")


async def test_ids_whole_short_and_with_their_algorithm() -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, "3")
    await shown.tag(ALPINE, "latest", held.digest)
    await shown.hold(NGINX, "1", config=ARM64)
    both = ["docker.io/library/alpine:3", "docker.io/library/alpine:latest"]
    for digest in (held.config, held.digest):
        for text in (str(digest), digest.hex, digest.short, digest.hex[:6], f"sha256:{digest.short}"):
            meaning = await shown.resolver.find(SOCKET, text)
            assert (named(meaning), meaning.identity, meaning.by_id) == (both, digest, True), text
        for text in (f"sha512:{digest.short}", digest.hex + "0", digest.short.upper() + "A", f"{digest.short}x"):
            with pytest.raises(ManifestUnknown, match="No such image"):
                await shown.resolver.find(SOCKET, text)


async def test_an_id_of_one_platform_means_the_index() -> None:
    shown = Showing()
    amd64 = await shown.hold(ALPINE, None)
    arm64 = await shown.hold(ALPINE, None, config=ARM64)
    index = await shown.index(ALPINE, "3", [(amd64.manifest, AMD64), (arm64.manifest, ARM64)])
    meaning = await shown.resolver.find(SOCKET, arm64.config.short)
    assert [(row.tag, row.manifest) for row in meaning.rows] == [("3", index.descriptor.digest)]
    assert meaning.identity == arm64.config
    meaning = await shown.resolver.find(SOCKET, str(arm64.digest))  # a child, by its manifest
    assert [(row.tag, row.manifest) for row in meaning.rows] == [(None, arm64.digest)]


async def test_a_name_comes_before_an_id() -> None:
    shown = Showing()
    held = await shown.hold(ALPINE, "3")
    name = held.config.hex[:4]
    assert named(await shown.resolver.find(SOCKET, name)) == ["docker.io/library/alpine:3"]
    await shown.hold(Repository("docker.io", f"library/{name}"), "latest", config=ARM64)
    assert named(await shown.resolver.find(SOCKET, name)) == [f"docker.io/library/{name}:latest"]


async def test_an_ambiguous_beginning_lists_what_it_may_mean() -> None:
    shown = Showing()
    first = await shown.hold(ALPINE, "3")
    letter = first.config.hex[0]
    number, other = 0, first
    while other.config.hex[0] != letter or other.config == first.config:
        number += 1
        config = b'{"n": %d}' % number
        if Digest.of(config).hex[0] == letter:
            other = await shown.hold(NGINX, "1", config=config)
    with pytest.raises(RequestInvalid) as caught:
        await shown.resolver.find(SOCKET, letter)
    assert caught.value.message.startswith(f"multiple IDs found with provided prefix: {letter}; it may mean ")
    assert f"{first.config.short} (alpine:3)" in caught.value.message
    assert f"{other.config.short} (nginx:1)" in caught.value.message
    assert caught.value.detail is not None
    assert {str(first.config), str(other.config)} <= set(caught.value.detail["ids"])  # type: ignore[call-overload]
    assert caught.value.status == 400


async def test_what_may_not_be_seen_is_not_there() -> None:
    """Fails where `by_id` or `named` leave out `Sight.sees`."""
    shown = Showing()
    held = await shown.hold(TOOL, "1", proof=Proof.CREDENTIALS)
    for text in (f"ghcr.io/team/tool@{held.digest}", "ghcr.io/team/tool:1", held.config.short, str(held.digest)):
        assert named(await shown.resolver.find(SOCKET, text)) == ["ghcr.io/team/tool:1"]
        with pytest.raises(ManifestUnknown, match="No such image: ") as hidden:
            await shown.resolver.find(STRANGER, text)
        with pytest.raises(ManifestUnknown) as missing:
            await Showing().resolver.find(STRANGER, text)
        assert (hidden.value.message, hidden.value.detail) == (missing.value.message, missing.value.detail)


async def test_an_id_is_ambiguous_only_among_what_he_may_see() -> None:
    shown = Showing()
    await shown.hold(ALPINE, "3")
    for number in range(40):
        await shown.hold(TOOL, f"{number}", config=b'{"n": %d}' % number, proof=Proof.CREDENTIALS)
    held = await shown.hold(NGINX, "1", config=ARM64)
    letter = held.config.hex[:2]
    found = await shown.resolver.find(STRANGER, letter)
    assert named(found) == ["docker.io/library/nginx:1"]


@pytest.mark.parametrize("text", ["", "UPPER", "a b", "alpine:", "a" * 300, "alpine@sha256:12", "-", "é", "\x00"])
async def test_what_is_no_name_is_no_image(text: str) -> None:
    with pytest.raises(ManifestUnknown, match="No such image: ") as caught:
        await Showing().resolver.find(SOCKET, text)
    assert caught.value.exit_code == 4


async def test_the_ids_below_somebodys_private_image_are_not_told() -> None:
    """Of an index that names it, before one of its own whose ID begins alike. Breaks where what is below the index is
    looked for wherever it is: then that is the private image's ID."""
    shown = Showing()
    secret = await shown.hold(TOOL, "1", proof=Proof.CREDENTIALS)
    prefix = secret.config.hex[:3]
    configs = (json.dumps({**ARM64, "n": number}).encode() for number in range(100_000))
    mine = await shown.hold(ALPINE, None, config=next(raw for raw in configs if Digest.of(raw).hex.startswith(prefix)))
    await shown.index(ALPINE, "3", [(secret.manifest, AMD64), (mine.manifest, ARM64)])
    meaning = await shown.resolver.find(STRANGER, prefix)
    assert (named(meaning), meaning.identity) == (["docker.io/library/alpine:3"], mine.config)
    with pytest.raises(ManifestUnknown):
        await shown.resolver.find(STRANGER, secret.config.hex)
