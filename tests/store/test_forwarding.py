from mirror.oci.names import Reference, Repository
from mirror.store.forwarding import OpenUpload, Queued
from tests.store.samples import ALPINE, OWN, digest_of

A = digest_of("a")


def test_a_push_goes_to_the_path_that_it_has_here() -> None:
    there = Repository("ghcr.io", "team/app")
    assert Queued(1, OWN, "v1", A, "ghcr.io", 0).destination == Reference(there, "v1", None)
    assert Queued(1, OWN, str(A), A, "ghcr.io", 0).destination == Reference(there, None, A)
    assert Queued(1, ALPINE, "3", A, "docker.io", 0).destination == Reference(ALPINE, "3", None)


def test_a_location_is_not_shown() -> None:
    assert "secret" not in repr(OpenUpload("https://there/?_state=secret", 1.0))
