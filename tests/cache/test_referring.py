"""Lists of referrers under a tag (distribution-spec, "Referrers Tag Schema")."""

import asyncio
import json
import logging

import pytest

from mirror.cache.referring import Referring, described, fallback_tag, with_referrer
from mirror.errors import ManifestInvalid
from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_CONFIG, OCI_INDEX, Manifest
from mirror.oci.names import Repository
from tests.cache.receiving import Receiver, silent
from tests.store.samples import image

THERE = Repository("ghcr.io", "me/app")
SUBJECT = image("subject")
TAG = fallback_tag(SUBJECT.descriptor.digest)


def signature(note: str) -> Manifest:
    return image("signature", subject=SUBJECT, note=note)


def listed(receiver: Receiver) -> list[str]:
    manifest = receiver.manifests[THERE, receiver.tags[THERE, TAG]]
    assert manifest.descriptor.media_type == OCI_INDEX
    return [str(each["digest"]) for each in json.loads(manifest.raw)["manifests"]]


@pytest.fixture
def receiver() -> Receiver:
    """A registry that takes a list of what it has."""
    made = Receiver("ghcr.io")
    for note in "abc":
        made.manifests[THERE, signature(note).descriptor.digest] = signature(note)
    return made


def test_the_tag_is_made_of_the_digest() -> None:
    assert fallback_tag(Digest.of(b"a")) == f"sha256-{Digest.of(b'a').hex}"
    assert fallback_tag(Digest.of(b"a", "sha512")) == f"sha512-{Digest.of(b'a', 'sha512').hex[:64]}"


def test_a_referrer_is_described_as_the_api_does() -> None:
    manifest = signature("mine")
    assert described(manifest) == {
        "mediaType": manifest.descriptor.media_type,
        "digest": str(manifest.descriptor.digest),
        "size": len(manifest.raw),
        "artifactType": OCI_CONFIG,
        "annotations": {"note": "mine"},
    }


def test_what_others_wrote_stays() -> None:
    first = with_referrer(b"", signature("a"))
    assert first is not None
    body = json.loads(first.raw) | {"annotations": {"by": "somebody"}}
    body["manifests"][0]["theirs"] = 1
    second = with_referrer(json.dumps(body).encode(), signature("b"))
    assert second is not None
    written = json.loads(second.raw)
    assert written["annotations"] == {"by": "somebody"}
    assert written["manifests"] == [body["manifests"][0], described(signature("b"))]
    assert with_referrer(second.raw, signature("a")) is None


@pytest.mark.parametrize("raw", [b"[]", b"no", image("a").raw])
def test_what_is_no_list_is_left_alone(raw: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        with_referrer(raw, signature("a"))


async def test_it_is_read_added_to_and_written(receiver: Receiver) -> None:
    referring = Referring()
    await referring.list(receiver, THERE, SUBJECT)  # which has no subject itself
    assert receiver.asked == []
    for note in "aab":
        await referring.list(receiver, THERE, signature(note))
    assert listed(receiver) == [str(signature(note).descriptor.digest) for note in "ab"]
    assert receiver.count("put") == 2


async def test_two_at_once_lose_nothing(receiver: Receiver) -> None:
    """Breaks where both read the same list: the later one takes the other's entry away."""
    referring = Referring()
    await asyncio.gather(*(referring.list(receiver, THERE, signature(note)) for note in "abc"))
    assert set(listed(receiver)) == {str(signature(note).descriptor.digest) for note in "abc"}


async def test_a_list_that_cannot_be_read_is_said_and_left(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.manifests[THERE, SUBJECT.descriptor.digest] = SUBJECT
    receiver.tags[THERE, TAG] = SUBJECT.descriptor.digest
    with caplog.at_level(logging.WARNING):
        await Referring().list(receiver, THERE, signature("a"))
    assert "lists no referrers" in caplog.text
    assert receiver.count("put") == 0


async def test_an_outage_is_raised(receiver: Receiver) -> None:
    receiver.script("manifest", silent())
    with pytest.raises(type(silent())):
        await Referring().list(receiver, THERE, signature("a"))
