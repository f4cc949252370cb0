"""What the catalog's suites cannot see: the rows themselves, and pushes that wait."""

from sqlite3 import Connection

import pytest

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Reference, Repository
from mirror.store import reads_inventory as reads
from mirror.store.commands.blobs import begin_delete, hold, hold_manifest
from mirror.store.commands.inventory import (
    evict,
    forget_misses,
    note_config,
    pin,
    remove_manifest,
    set_tag,
    touch,
    unpin,
    verified,
)
from mirror.store.commands.ledgers import missed
from mirror.store.commands.rows import make_blob, make_repository
from mirror.store.commands.tags import move_tag
from mirror.store.inventory import ConfigFacts, View
from mirror.store.protocols import UPLOAD_GRACE, Origin, Proof
from tests.store.samples import ALPINE, CONFIG, NGINX, OWN, digest_of, image, index

LATER = 1e9


def queue(db: Connection, manifest: Manifest, home: Repository = ALPINE) -> None:
    """A push that waits for its registry."""
    row = (make_repository(db, home), make_blob(db, manifest.descriptor.digest))
    db.execute(
        "INSERT INTO outbox (repository, reference, manifest, target, queued_at) VALUES (?, 'x', ?, 'there', 1)", row
    )


def links(db: Connection, home: Repository) -> list[Digest]:
    rows = db.execute(
        "SELECT b.digest FROM links l JOIN blobs b ON b.id = l.blob WHERE l.repository = ? AND l.is_manifest",
        (make_repository(db, home),),
    )
    return sorted(Digest.from_bytes(row[0]) for row in rows)


def test_what_waits_in_the_outbox_is_not_evicted_and_not_deleted(db: Connection) -> None:
    manifest = image("a")
    digest = manifest.descriptor.digest
    hold_manifest(db, ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
    queue(db, manifest)
    assert db.execute(reads.CANDIDATES, (10,)).fetchall() == []
    assert not evict(db, ALPINE, digest, LATER, LATER)
    remove_manifest(db, ALPINE, digest, 2, "me")
    assert begin_delete(db, digest) is None
    assert db.execute(reads.UNREFERENCED, (LATER, UPLOAD_GRACE, 10)).fetchall() == []


def test_nor_does_it_go_along_with_its_index(db: Connection) -> None:
    children = [image("a"), image("b")]
    top = index(children)
    for manifest in (*children, top):
        hold_manifest(db, ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
    queue(db, children[0])
    assert evict(db, ALPINE, top.descriptor.digest, LATER, LATER)
    assert links(db, ALPINE) == [children[0].descriptor.digest]


def test_a_removed_tag_loses_its_row_and_keeps_its_history(db: Connection) -> None:
    manifest = image("a")
    hold_manifest(db, ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
    move_tag(db, ALPINE, "x", None, manifest.descriptor.digest, Origin.UPSTREAM, 1, "docker.io")
    remove_manifest(db, ALPINE, manifest.descriptor.digest, 2, "me")
    assert db.execute("SELECT * FROM tags").fetchall() == []
    rows = db.execute("SELECT name, at, manifest IS NULL, actor FROM tag_history ORDER BY id").fetchall()
    assert rows == [("x", 1, 0, "docker.io"), ("x", 2, 1, "me")]


def test_adopting_again_adds_what_came_since(db: Connection) -> None:
    children = [image("a"), image("b")]
    top = index(children)
    for manifest in (children[0], top):
        hold_manifest(db, ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
    assert set_tag(db, OWN, "v1", top.descriptor.digest, 2, "me", View(ALPINE, trusted=False))
    assert len(links(db, OWN)) == 2
    hold_manifest(db, ALPINE, children[1], "here", Proof.ANONYMOUS, 3)
    for at in (4, 3):
        assert set_tag(db, OWN, "v1", top.descriptor.digest, at, "me", View(ALPINE, trusted=False))
    assert len(links(db, OWN)) == 3
    assert db.execute("SELECT DISTINCT pushed_at FROM links WHERE pushed_at IS NOT NULL").fetchall() == [(4,)]


def test_a_refused_tag_leaves_no_row_behind(db: Connection) -> None:
    assert not set_tag(db, OWN, "v1", digest_of("a"), 2, "me", View(ALPINE, trusted=True))
    assert not set_tag(db, NGINX, "v1", digest_of("a"), 2, "me", View(ALPINE, trusted=True))
    assert db.execute("SELECT * FROM repositories").fetchall() == []


def test_a_pin_keeps_its_first_time(db: Connection) -> None:
    for at in (1, 2):
        pin(db, Reference(ALPINE, "3", None), "me", at)
    assert db.execute("SELECT reference, owner, pinned_at FROM pins").fetchall() == [("3", "me", 1)]
    assert unpin(db, Reference(ALPINE, "3", None), None) == 1


def test_touch_writes_times_of_tags_and_blobs(db: Connection) -> None:
    manifest = image("a")
    digest = manifest.descriptor.digest
    hold(db, digest_of("a"), 1, "here", [], 1)
    hold_manifest(db, ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
    move_tag(db, ALPINE, "x", None, digest, Origin.UPSTREAM, 1, "docker.io")
    for at in (5, 3):
        touch(db, [(ALPINE, "x")], [digest_of("a"), digest_of("unknown")], at)
    assert db.execute("SELECT used_at FROM tags").fetchall() == [(5,)]
    assert db.execute("SELECT DISTINCT used_at FROM blobs WHERE state = 'held'").fetchall() == [(5,)]


def test_verified_is_noted_of_what_is_held(db: Connection) -> None:
    hold(db, digest_of("a"), 1, "here", [], 1)
    make_blob(db, digest_of("b"))
    verified(db, [digest_of("a"), digest_of("b")], 5)
    assert db.execute("SELECT verified_at FROM blobs ORDER BY verified_at").fetchall() == [(None,), (5,)]


def test_a_config_is_noted_once_for_all_its_images(db: Connection) -> None:
    hold(db, Digest.of(CONFIG), 2, "here", [], 1)
    for text in ("a", "b"):
        hold_manifest(db, ALPINE, image(text), "here", Proof.ANONYMOUS, 1)
        note_config(db, image(text).descriptor.digest, ConfigFacts(Digest.of(CONFIG), None, f"linux/{text}"))
    assert db.execute("SELECT created, platform FROM configs").fetchall() == [(None, "linux/b")]


def test_misses_are_forgotten(db: Connection) -> None:
    missed(db, "x", 1)
    forget_misses(db)
    assert db.execute("SELECT * FROM misses").fetchall() == []


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_pins_name_digests_of_either_algorithm(db: Connection, algorithm: str) -> None:
    digest = Digest.of(b"a", algorithm)
    hold(db, digest, 1, "here", [], 1)
    pin(db, Reference(ALPINE, None, digest), "me", 1)
    assert begin_delete(db, digest) is None
    unpin(db, Reference(ALPINE, None, digest), "me")
    assert begin_delete(db, digest) == "here"
