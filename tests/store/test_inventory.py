import base64
import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import RequestInvalid
from mirror.oci.manifest import OCI_MANIFEST
from mirror.store.inventory import ImageRow, Place, cursor_after, read_cursor
from mirror.store.protocols import Link, Origin
from tests.store.samples import ALPINE, digest_of

ROW = ImageRow(
    repository=ALPINE,
    tag="3",
    manifest=digest_of("a"),
    media_type=OCI_MANIFEST,
    manifest_size=1,
    origin=Origin.UPSTREAM,
    link=Link(),
    moved_at=1700000000.123456,
    gone_at=None,
    used_at=None,
    pinned=False,
)
HOME = ("docker.io", "library/alpine")


def cursor(place: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def test_a_cursor_tells_where_its_row_stands() -> None:
    assert read_cursor(cursor_after(ROW)) == Place(HOME, "3")
    without = replace(ROW, tag=None)
    assert read_cursor(cursor_after(without)) == Place(HOME, None, ROW.moved_at, ROW.manifest.to_bytes())


@given(at=st.floats(0, 1e12))
def test_times_come_back_exactly(at: float) -> None:
    assert read_cursor(cursor_after(replace(ROW, tag=None, moved_at=at))).at == at


def test_a_cursor_can_stand_in_a_url() -> None:
    for tag in (None, *"0123456789"):
        assert cursor_after(replace(ROW, tag=tag)).replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "",
        "é",
        "a b",
        "%%%%",
        cursor(None),
        cursor([]),
        cursor(["a", "b"]),
        cursor(["a", "b", 1]),
        cursor(["a", "b", 1.5, "sha256:short"]),
        cursor(["a", 1, "c"]),
        cursor({"a": 1}),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        cursor_after(ROW)[:-3],
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(RequestInvalid, match="cursor"):
        read_cursor(text)


@given(text=st.text())
def test_no_text_does_worse(text: str) -> None:
    with contextlib.suppress(RequestInvalid):
        read_cursor(text)


def test_a_place_is_moved_forwards_only() -> None:
    tag = Place(HOME, "3")
    assert tag.not_before(("docker.io", "a")) is tag
    assert tag.not_before(HOME) is tag
    assert tag.not_before(("ghcr.io", "")) == Place(("ghcr.io", ""), "")
    assert Place(HOME, None, 5, b"x").not_before(("ghcr.io", "")) == Place(("ghcr.io", ""), None)
