import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mirror.config.model import Settings
from mirror.config.sizes import Reserve, format_size, parse_reserve, parse_size


@pytest.mark.parametrize(("text", "size"), [
    ("200MB", 200_000_000), ("1.5TB", 1_500_000_000_000), ("512MiB", 512 << 20), ("20 GB", 20_000_000_000),
    ("1kB", 1000), ("1k", 1000), ("1KiB", 1024), ("1Ki", 1024), ("7B", 7), ("7", 7), (" 7b ", 7), ("2PB", 2 * 10**15),
    (0, 0), (1234, 1234),
])  # fmt: skip
def test_sizes_are_read_as_docker_writes_them(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "wrong", ["", "MB", "-1MB", "1XB", "1iB", "1e9", "5%", "٥MB", True, None, 1.5, -1, 2**63, "9000000PB"]
)
def test_what_is_no_size_is_refused_with_an_example(wrong: object) -> None:
    with pytest.raises(ValueError, match='write one such as "200MB"'):
        parse_size(wrong)


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_sizes_survive_writing_and_reading(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(("size", "text"), [(0, "0B"), (999, "999B"), (200_000_000, "200MB"), (512 << 20, "512MiB")])
def test_sizes_are_written_short(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(("value", "total", "free"), [
    ("5%", 1000, 50), ("0%", 1000, 0), ("12.5 %", 1000, 125), ("20GB", 10, 20_000_000_000), (5, 1000, 5),
])  # fmt: skip
def test_a_reserve_is_a_share_of_the_disk_or_a_size(value: object, total: int, free: int) -> None:
    assert parse_reserve(value).of(total) == free


@pytest.mark.parametrize("reserve", [Reserve(0.05), Reserve(0.125), Reserve(None, 512 << 20), Reserve(0.0)])
def test_a_reserve_is_read_as_it_is_written(reserve: Reserve) -> None:
    assert parse_reserve(str(reserve)) == reserve


@pytest.mark.parametrize(("wrong", "says"), [
    ("five", "neither a share of the disk"), ("-5%", "neither a share"), (True, "neither a share"),
    ("91%", "more than 90%"), ({"share": 0.5}, "neither a share"),
])  # fmt: skip
def test_what_is_no_reserve_is_refused(wrong: object, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        parse_reserve(wrong)


def test_in_settings() -> None:
    settings = Settings.model_validate({"data": "/d", "max_size": "200MB", "min_free": "1GiB"})
    assert (settings.max_size, settings.min_free.of(0)) == (200_000_000, 1 << 30)
    default = Settings.model_validate({"data": "/d"})
    assert (default.max_size, default.min_free.of(1000)) == (None, 50)
    with pytest.raises(ValidationError, match="0 leaves no room"):
        Settings.model_validate({"data": "/d", "max_size": 0})
