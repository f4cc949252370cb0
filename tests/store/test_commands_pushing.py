"""What the catalogs' suite cannot see: the rows themselves, and that a refused push leaves none."""

from sqlite3 import Connection

from mirror.oci.digest import Digest
from mirror.store.commands.blobs import hold
from mirror.store.commands.pushing import begin_upload, drop_manifest, finish_upload, push_manifest
from mirror.store.protocols import Proof
from tests.store.samples import ALPINE, OWN, TOOL
from tests.store.suites_pushing import CONFIG_DIGEST, DIGEST, IMAGE, NOW, A, B, children, pushed, upload


def rows(db: Connection, table: str) -> int:
    count: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return count


def test_a_refused_push_leaves_no_row(db: Connection) -> None:
    hold(db, A, 1, "there", [(ALPINE, Proof.ANONYMOUS)], NOW)
    before = {table: rows(db, table) for table in ("repositories", "links", "blobs", "manifests", "edges", "tags")}
    for push in (pushed("1", needed=children(IMAGE)), pushed("1", adopted=[A, B])):
        assert push_manifest(db, OWN, IMAGE, "place", push) is not None
    assert {table: rows(db, table) for table in before} == before


def test_an_upload_is_begun_anew_under_its_id(db: Connection) -> None:
    begin_upload(db, upload("1"))
    begin_upload(db, upload("1", NOW + 1, TOOL))
    assert db.execute("SELECT path, touched_at FROM uploads").fetchall() == [("team/tool", NOW + 1)]


def test_pins_and_history_name_the_digest_as_it_is_written(db: Connection) -> None:
    """Breaks if the pin of a sha512 digest stays behind."""
    digest = Digest.of(b"x", "sha512")
    for each in (CONFIG_DIGEST, A):
        finish_upload(db, "none", OWN, each, 1, "there", NOW)
    push_manifest(db, OWN, IMAGE, "place", pushed(needed=children(IMAGE)))
    home = db.execute("SELECT id FROM repositories").fetchone()[0]
    for reference in (str(DIGEST), str(digest)):
        db.execute(
            "INSERT INTO pins (repository, reference, owner, pinned_at) VALUES (?, ?, 'me', 1)", (home, reference)
        )
    assert drop_manifest(db, OWN, DIGEST, NOW, "me") == []
    assert db.execute("SELECT reference FROM pins").fetchall() == [(str(digest),)]
