from sqlite3 import Connection

import pytest

from mirror.store.commands import tags
from mirror.store.commands.blobs import begin_delete, deleted, hold_manifest
from mirror.store.commands.rows import blob_row
from mirror.store.commands.tags import drop_tag, move_tag
from mirror.store.protocols import Origin, Proof
from tests.store.samples import ALPINE, NGINX, image

IMAGES = [image(str(number)) for number in range(6)]
DIGESTS = [manifest.descriptor.digest for manifest in IMAGES]


@pytest.fixture(autouse=True)
def manifests(db: Connection) -> None:
    for repository in (ALPINE, NGINX):
        for manifest in IMAGES:
            hold_manifest(db, repository, manifest, "here", Proof.PUSHED, 1)


def history(db: Connection) -> list[tuple[str, str, float, int | None, str]]:
    """Path, name, time, number of the image, actor; oldest first."""
    rows = db.execute(
        "SELECT r.path, h.name, h.at, b.digest, h.actor FROM tag_history h"
        " JOIN repositories r ON r.id = h.repository LEFT JOIN blobs b ON b.id = h.manifest ORDER BY h.id"
    )
    packed = [digest.to_bytes() for digest in DIGESTS]
    return [(path, name, at, packed.index(digest) if digest else None, actor) for path, name, at, digest, actor in rows]


def test_every_move_is_remembered_with_who_did_it(db: Connection) -> None:
    assert move_tag(db, ALPINE, "3", None, DIGESTS[0], Origin.UPSTREAM, 1, "docker.io")
    assert move_tag(db, ALPINE, "3", DIGESTS[0], DIGESTS[0], Origin.UPSTREAM, 2, "docker.io")  # no move
    assert not move_tag(db, ALPINE, "3", None, DIGESTS[1], Origin.UPSTREAM, 3, "docker.io")
    assert move_tag(db, ALPINE, "3", DIGESTS[0], DIGESTS[1], Origin.LOCAL, 4, "me")
    drop_tag(db, ALPINE, "3", DIGESTS[1], 5, "me")
    drop_tag(db, ALPINE, "3", DIGESTS[1], 6, "me")  # there is none
    assert history(db) == [
        ("library/alpine", "3", 1, 0, "docker.io"),
        ("library/alpine", "3", 4, 1, "me"),
        ("library/alpine", "3", 5, None, "me"),
    ]


def test_the_history_of_one_tag_is_capped(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "HISTORY_PER_TAG", 3)
    assert move_tag(db, ALPINE, "other", None, DIGESTS[0], Origin.LOCAL, 0, "me")
    assert move_tag(db, NGINX, "3", None, DIGESTS[0], Origin.LOCAL, 0, "me")
    expected = None
    for at, digest in enumerate(DIGESTS, start=1):
        assert move_tag(db, ALPINE, "3", expected, digest, Origin.LOCAL, at, "me")
        expected = digest
    assert [(path, name, at) for path, name, at, *_ in history(db)] == [
        ("library/alpine", "other", 0),
        ("library/nginx", "3", 0),
        ("library/alpine", "3", 4),
        ("library/alpine", "3", 5),
        ("library/alpine", "3", 6),
    ]


def test_the_whole_history_is_capped(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "HISTORY_ROWS", 4)
    for number in range(10):
        assert move_tag(db, ALPINE, f"t{number}", None, DIGESTS[0], Origin.LOCAL, number, "me")
    assert [name for _, name, *_ in history(db)] == ["t6", "t7", "t8", "t9"]


def test_times_of_use_survive_a_move(db: Connection) -> None:
    assert move_tag(db, ALPINE, "3", None, DIGESTS[0], Origin.UPSTREAM, 1, "docker.io")
    db.execute("UPDATE tags SET used_at = 7")
    assert move_tag(db, ALPINE, "3", DIGESTS[0], DIGESTS[1], Origin.UPSTREAM, 8, "docker.io")
    assert db.execute("SELECT used_at FROM tags").fetchall() == [(7,)]


def test_what_only_dropped_history_named_is_forgotten(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "HISTORY_PER_TAG", 1)
    assert move_tag(db, ALPINE, "3", None, DIGESTS[0], Origin.LOCAL, 1, "me")
    db.execute("DELETE FROM links WHERE blob = (SELECT id FROM blobs WHERE digest = ?)", (DIGESTS[0].to_bytes(),))
    drop_tag(db, ALPINE, "3", DIGESTS[0], 2, "me")
    assert begin_delete(db, DIGESTS[0]) == "here"
    deleted(db, DIGESTS[0])
    assert blob_row(db, DIGESTS[0]) is None


def test_a_move_is_a_use(db: Connection) -> None:
    assert move_tag(db, ALPINE, "3", None, DIGESTS[0], Origin.UPSTREAM, 5, "docker.io")
    db.execute("UPDATE tags SET used_at = 7")
    assert move_tag(db, ALPINE, "3", DIGESTS[0], DIGESTS[1], Origin.UPSTREAM, 6, "docker.io")
    found = dict(db.execute("SELECT digest, used_at FROM blobs").fetchall())
    assert [found[digest.to_bytes()] for digest in DIGESTS[:3]] == [5, 7, 1]
