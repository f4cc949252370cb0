"""Conditions in SQL say what the words beside them say. What they decide is tested where they are used."""

from sqlite3 import Connection

import pytest

from mirror.oci.names import Repository
from mirror.store.commands.blobs import hold, link
from mirror.store.commands.rows import blob_row, repository_id
from mirror.store.conditions import seen
from mirror.store.protocols import Proof
from tests.store.samples import ALPINE, NGINX, digest_of

A = digest_of("a")


def shows(db: Connection, home: Repository, *, is_manifest: bool, trusted: bool) -> bool:
    blob = blob_row(db, A)
    assert blob is not None
    found = db.execute(
        f"SELECT {seen('?1', '?2', '?3', '?4')}",
        (repository_id(db, home), blob[0], is_manifest, trusted),
    ).fetchone()[0]
    return bool(found)


@pytest.mark.parametrize(("proof", "trusted", "shown"), [
    (Proof.ANONYMOUS, False, True), (Proof.PUSHED, False, True),
    (Proof.CREDENTIALS, False, False), (Proof.CREDENTIALS, True, True),
])  # fmt: skip
@pytest.mark.parametrize("is_manifest", [False, True])
def test_by_its_own_link(db: Connection, proof: Proof, trusted: bool, shown: bool, is_manifest: bool) -> None:
    hold(db, A, 1, "here", [], 1)
    assert link(db, ALPINE, A, proof, 1, is_manifest=is_manifest)
    assert shows(db, ALPINE, is_manifest=is_manifest, trusted=trusted) is shown


@pytest.mark.parametrize("is_manifest", [False, True])
def test_what_is_public_elsewhere_counts_for_its_own_kind(db: Connection, is_manifest: bool) -> None:
    hold(db, A, 1, "here", [], 1)
    link(db, NGINX, A, Proof.ANONYMOUS, 1, is_manifest=is_manifest)
    assert link(db, ALPINE, A, Proof.CREDENTIALS, 1, is_manifest=True)
    assert shows(db, ALPINE, is_manifest=is_manifest, trusted=False)
    assert not shows(db, ALPINE, is_manifest=not is_manifest, trusted=False)
