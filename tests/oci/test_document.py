"""What is no document that every reader reads alike is refused, and nothing else is raised."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import ManifestInvalid
from mirror.oci import document

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_what_is_written_is_read(body: dict[str, Any]) -> None:
    assert document.decode(json.dumps(body).encode()) == body


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:0123456789ntf \\', max_size=200).map(str.encode))
def test_anything_is_read_or_refused(raw: bytes) -> None:
    with contextlib.suppress(ManifestInvalid):
        assert isinstance(document.decode(raw), dict)


@pytest.mark.parametrize(("raw", "why"), [
    (b'{"a": 1, "a": 1}', "twice"),
    (b'{"a": {"b": 1, "b": 2}}', "twice"),
    (b'{"a": NaN}', "NaN is not JSON"),
    (b"[]", "not a JSON object"),
    (b"", "not JSON"),
    ('{"a": 1}'.encode("utf-16"), "not JSON in UTF-8"),
    (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "deeper"),
    (b'{"a": [' + b"[]," * 100_001 + b"1]}", "too many parts"),
])  # fmt: skip
def test_it_says_why(raw: bytes, why: str) -> None:
    with pytest.raises(ManifestInvalid, match=why):
        document.decode(raw)
