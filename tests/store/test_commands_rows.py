from sqlite3 import Connection

from mirror.store.commands.blobs import hold_manifest, quarantine
from mirror.store.commands.rows import blob_row, held_manifest, make_blob, make_repository, repository_id
from mirror.store.protocols import Proof
from tests.store.samples import ALPINE, NGINX, digest_of, image


def test_repositories_are_made_once(db: Connection) -> None:
    assert repository_id(db, ALPINE) is None
    made = make_repository(db, ALPINE)
    assert make_repository(db, ALPINE) == repository_id(db, ALPINE) == made
    assert make_repository(db, NGINX) != made


def test_digests_are_made_once_and_absent(db: Connection) -> None:
    assert blob_row(db, digest_of("a")) is None
    made = make_blob(db, digest_of("a"))
    assert make_blob(db, digest_of("a")) == made
    assert blob_row(db, digest_of("a")) == (made, "absent")


def test_a_manifest_is_found_only_where_it_is_linked_and_held(db: Connection) -> None:
    manifest = image("a")
    digest = manifest.descriptor.digest
    hold_manifest(db, ALPINE, manifest, "here", Proof.PUSHED, 1)
    row = blob_row(db, digest)
    assert row is not None
    assert held_manifest(db, make_repository(db, ALPINE), digest) == row[0]
    assert held_manifest(db, make_repository(db, NGINX), digest) is None
    quarantine(db, digest)
    assert held_manifest(db, make_repository(db, ALPINE), digest) is None
