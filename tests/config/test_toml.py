import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.config.toml import toml_key, toml_string, toml_value

VALUES = st.recursive(
    st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4),
)


@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    assert tomllib.loads(f"x = {toml_value(value)}") == {"x": value}


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_keys_are_read_back(key: str) -> None:
    assert tomllib.loads(f"{toml_key('a', key)} = 1") == {"a": {key: 1}}


@given(st.text())
def test_a_string_is_printable_ascii_on_one_line(text: str) -> None:
    written = toml_string(text)
    assert written.isascii()
    assert written.isprintable()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, "true"),
        (1.5, "1.5"),
        ("a", '"a"'),
        (Path("/a"), '"/a"'),
        (("a", 1), '["a", 1]'),
        ({"a": 1}, "a table"),
        (None, "nothing"),
        (object(), "a object"),
    ],
)
def test_values_stand_in_messages(value: object, written: str) -> None:
    assert toml_value(value) == written
