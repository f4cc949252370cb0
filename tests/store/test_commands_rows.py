from sqlite3 import Connection

from mirror.store.commands.blobs import hold_manifest, quarantine
from mirror.store.commands.rows import (
    blob_row,
    forget_blobs,
    held_manifest,
    make_blob,
    make_repository,
    repository_id,
    used,
)
from mirror.store.protocols import Proof
from tests.store.samples import ALPINE, NGINX, digest_of, image, index


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


def test_only_what_is_absent_and_nowhere_named_is_forgotten(db: Connection) -> None:
    manifest = image("a")
    hold_manifest(db, ALPINE, manifest, "here", Proof.PUSHED, 1)
    digests = [manifest.descriptor.digest, digest_of("a"), digest_of("b")]
    forget_blobs(db, [make_blob(db, digest) for digest in digests])
    assert [blob_row(db, digest) is not None for digest in digests] == [True, True, False]


def test_use_climbs_to_indices_and_never_falls(db: Connection) -> None:
    child = image("a")
    middle = index([child])
    top, aside = index([middle]), image("b")
    for manifest in (child, middle, top, aside):
        hold_manifest(db, ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
    row = blob_row(db, child.descriptor.digest)
    assert row is not None
    for at in (5, 3):
        used(db, row[0], at)
    found = dict(db.execute("SELECT digest, used_at FROM blobs").fetchall())
    for manifest, at in ((child, 5), (middle, 5), (top, 5), (aside, 1)):
        assert found[manifest.descriptor.digest.to_bytes()] == at
    assert found[digest_of("a").to_bytes()] is None  # absent: it has no use
