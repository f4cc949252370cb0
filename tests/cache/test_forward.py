"""What is put under a registry's name goes on to it; what the registry does not have is deleted all the same."""

import pytest

from mirror.cache.forward import Forward
from mirror.errors import ManifestBlobUnknown, Offline, UpstreamRefused
from mirror.oci.names import Repository
from mirror.store.protocols import Proof
from tests.cache.receiving import Office, keep, refused
from tests.store.samples import CONFIG, digest_of, image

APP = Repository("ghcr.io", "me/app")


def forward(office: Office) -> Forward:
    return Forward(
        transfers=office.transfers, outbox=office.outbox, upstreams=office.world.upstreams, policy=office.world.policy
    )


async def parts(office: Office, *layers: str, proof: Proof = Proof.PUSHED) -> None:
    for data in (CONFIG, *(layer.encode() for layer in layers)):
        await keep(office.world, APP, data, proof)


async def test_it_is_there_under_each_of_its_names(office: Office) -> None:
    await parts(office, "a")
    manifest = image("a")
    await forward(office).through(APP, manifest, ["1", "latest"], trusted=True)
    digest = manifest.descriptor.digest
    assert office.ghcr.tags == {(APP, "1"): digest, (APP, "latest"): digest}
    await parts(office, "b")
    await forward(office).through(APP, image("b"), [], trusted=True)
    assert set(office.ghcr.manifests) == {(APP, digest), (APP, image("b").descriptor.digest)}


async def test_what_he_may_not_see_is_not_sent_for_him(office: Office) -> None:
    """Breaks if a layer that only the mirror's credentials showed goes wherever somebody names it."""
    await parts(office, "a", proof=Proof.CREDENTIALS)
    with pytest.raises(ManifestBlobUnknown):
        await forward(office).through(APP, image("a"), ["1"], trusted=False)
    assert not office.ghcr.received


async def test_a_refusal_is_the_registrys_own(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """And it stands in the log: many a client shows the status alone."""
    await parts(office, "a")
    office.ghcr.script("put", refused())
    with pytest.raises(UpstreamRefused):
        await forward(office).through(APP, image("a"), ["1"], trusted=True)
    assert "ghcr.io/me/app:1 was not sent on: " in caplog.text


async def test_deleting(office: Office) -> None:
    await parts(office, "a")
    manifest = image("a")
    await forward(office).through(APP, manifest, ["1"], trusted=True)
    await forward(office).delete(APP, "1")
    assert not office.ghcr.tags
    await forward(office).delete(APP, "1")  # there is none any more
    await forward(office).delete(APP, manifest.descriptor.digest)
    assert (APP, manifest.descriptor.digest) not in office.ghcr.manifests
    office.world.policy.offline = True
    with pytest.raises(Offline):
        await forward(office).delete(APP, digest_of("x"))
