"""What the catalog's suite cannot see: the rows themselves, and roots that no method makes yet."""

from sqlite3 import Connection

import pytest

from mirror.errors import StoreFailed
from mirror.oci.digest import Digest
from mirror.store.commands.blobs import begin_delete, deleted, hold, hold_manifest, link
from mirror.store.commands.rows import make_blob, make_repository
from mirror.store.commands.tags import drop_tag, move_tag
from mirror.store.protocols import Origin, Proof
from tests.store.samples import ALPINE, NGINX, OWN, digest_of, image, index

A = digest_of("a")


def held(db: Connection, digest: Digest = A) -> Digest:
    hold(db, digest, 1, "here", [], 1)
    return digest


def test_hold_writes_the_times(db: Connection) -> None:
    held(db)
    assert db.execute("SELECT state, used_at, touched_at, verified_at FROM blobs").fetchall() == [("held", 1, 1, 1)]
    hold(db, A, 2, "there", [], 5)
    assert db.execute("SELECT size, location, verified_at FROM blobs").fetchall() == [(2, "there", 5)]


def test_the_first_link_is_remembered(db: Connection) -> None:
    hold(db, A, 1, "here", [(ALPINE, Proof.ANONYMOUS)], 1)
    link(db, ALPINE, A, Proof.PUSHED, 2, is_manifest=False)
    assert db.execute("SELECT linked_at, anonymous_at, pushed_at, upstream_at FROM links").fetchall() == [
        (1, 1, 2, None)
    ]


def test_a_manifests_edges_are_written_once(db: Connection) -> None:
    parent = index([image("a"), image("b")])
    for at in (1, 2):
        hold_manifest(db, ALPINE, parent, "here", Proof.PUSHED, at)
    rows = db.execute(
        "SELECT e.position, b.digest, e.role, e.media_type, e.size, e.platform"
        " FROM edges e JOIN blobs b ON b.id = e.child ORDER BY e.position"
    ).fetchall()
    assert rows == [
        (
            n,
            child.descriptor.digest.to_bytes(),
            "manifest",
            child.descriptor.media_type,
            child.descriptor.size,
            f"linux/a{n}",
        )
        for n, child in enumerate((image("a"), image("b")))
    ]


def test_what_a_manifest_says_is_kept(db: Connection) -> None:
    subject = image("a")
    hold_manifest(db, ALPINE, image("b", subject=subject, note="ü"), "here", Proof.PUSHED, 1)
    row = db.execute(
        "SELECT s.digest, s.state, m.artifact_type, m.annotations FROM manifests m JOIN blobs s ON s.id = m.subject"
    ).fetchone()
    assert row == (
        subject.descriptor.digest.to_bytes(),
        "absent",  # it need not be held
        "application/vnd.oci.image.config.v1+json",
        '{"note": "\\u00fc"}',
    )


@pytest.mark.parametrize(
    "root",
    [
        "INSERT INTO tags (repository, name, manifest, origin, moved_at, checked_at, gone_at)"
        " VALUES (:home, 'x', :blob, 'upstream', 1, 1, 2)",  # gone upstream, and kept
        "INSERT INTO pins VALUES (:home, :text, 'me', 1)",
        "INSERT INTO outbox (repository, reference, manifest, target, queued_at) VALUES (:home, 'x', :blob, 'y', 1)",
        "INSERT INTO links (repository, blob, is_manifest, linked_at, pushed_at) VALUES (:home, :blob, 1, 1, 1)",
        "INSERT INTO links (repository, blob, is_manifest, linked_at, anonymous_at) VALUES (:home, :blob, 1, 1, 1)",
    ],
    ids=["tag", "pin", "outbox", "pushed manifest", "delivered manifest"],
)
def test_a_root_keeps_its_blob(db: Connection, root: str) -> None:
    held(db)
    db.execute(root, {"home": make_repository(db, ALPINE), "blob": make_blob(db, A), "text": str(A)})
    assert begin_delete(db, A) is None
    assert db.execute("SELECT state FROM blobs").fetchall() == [("held",)]


def test_a_link_as_a_blob_is_no_root(db: Connection) -> None:
    hold(db, A, 1, "here", [(OWN, Proof.PUSHED)], 1)
    assert begin_delete(db, A) == "here"


def test_an_image_goes_from_the_top(db: Connection) -> None:
    child = image("a")
    parent = index([child])
    held(db)
    hold_manifest(db, ALPINE, child, "child", Proof.ANONYMOUS, 1)
    hold_manifest(db, ALPINE, parent, "parent", Proof.ANONYMOUS, 1)
    db.execute("DELETE FROM links")  # as an eviction or `rmi` will do
    order = [parent.descriptor.digest, child.descriptor.digest, A]
    assert [begin_delete(db, digest) for digest in reversed(order)] == [None, None, "parent"]
    deleted(db, order[0])
    assert [begin_delete(db, digest) for digest in (order[2], order[1], order[2])] == [None, "child", "here"]
    for digest in order:
        deleted(db, digest)
    for table in ("links", "edges", "manifests"):
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    assert db.execute("SELECT * FROM blobs").fetchall() == []  # nothing names them any more
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []


def test_what_is_named_elsewhere_is_remembered_as_absent(db: Connection) -> None:
    one, two = image("a", "b"), image("a", subject=image("c"))
    for manifest in (one, two):
        hold_manifest(db, ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
    held(db)
    move_tag(db, ALPINE, "x", None, one.descriptor.digest, Origin.UPSTREAM, 1, "me")
    drop_tag(db, ALPINE, "x", one.descriptor.digest, 2, "me")
    db.execute("DELETE FROM links")
    for digest in (one.descriptor.digest, two.descriptor.digest, A):
        assert begin_delete(db, digest) == "here"
        deleted(db, digest)
    row = (one.descriptor.digest.to_bytes(), "absent", None, None, None, None, None)
    columns = "digest, state, size, location, used_at, touched_at, verified_at"
    assert db.execute(f"SELECT {columns} FROM blobs").fetchall() == [row]  # the tag's history has it
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_child_manifest_waits_for_an_index_that_nobody_holds(db: Connection) -> None:
    child = image("a")
    parent = index([child])
    for manifest in (child, parent):
        hold_manifest(db, ALPINE, manifest, "here", Proof.ANONYMOUS, 1)
    db.execute("DELETE FROM links WHERE blob = ?", (make_blob(db, child.descriptor.digest),))
    assert begin_delete(db, child.descriptor.digest) == "here"  # the image has lost a platform
    db.execute("UPDATE blobs SET state = 'held' WHERE state = 'deleting'")
    db.execute("DELETE FROM links")
    assert begin_delete(db, child.descriptor.digest) is None


def test_a_child_that_is_known_as_a_blob_only_is_needed(db: Connection) -> None:
    child = image("a")
    hold_manifest(db, ALPINE, index([child]), "here", Proof.ANONYMOUS, 1)
    hold(db, child.descriptor.digest, 1, "there", [(ALPINE, Proof.ANONYMOUS)], 1)
    assert begin_delete(db, child.descriptor.digest) is None


def test_a_time_that_went_back_takes_no_use_away(db: Connection) -> None:
    for at in (5, 3):
        hold(db, A, 1, "here", [], at)
    assert db.execute("SELECT used_at, touched_at, verified_at FROM blobs").fetchall() == [(5, 5, 3)]


def test_uploads_wait_for_a_pushed_manifest_only(db: Connection) -> None:
    hold(db, A, 1, "here", [(OWN, Proof.PUSHED)], 5)
    hold_manifest(db, ALPINE, image("a"), "there", Proof.ANONYMOUS, 6)
    assert db.execute("SELECT touched_at FROM blobs WHERE digest = ?", (A.to_bytes(),)).fetchall() == [(5,)]
    hold_manifest(db, OWN, image("a"), "there", Proof.PUSHED, 7)
    assert db.execute("SELECT touched_at FROM blobs WHERE digest = ?", (A.to_bytes(),)).fetchall() == [(None,)]


def test_a_manifest_is_not_held_while_it_is_deleted(db: Connection) -> None:
    manifest = image("a")
    hold_manifest(db, ALPINE, manifest, "here", Proof.PUSHED, 1)
    db.execute("DELETE FROM links")
    assert begin_delete(db, manifest.descriptor.digest) == "here"
    with pytest.raises(StoreFailed, match="being deleted"):
        hold_manifest(db, NGINX, manifest, "here", Proof.PUSHED, 2)
