"""`Retry-After` and pull quotas."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.upstream.limits import DEFAULT_REST, LONGEST_REST, Quota, parse_quota, rest_seconds

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 5 ", 5.0),
        ("0", 1.0),
        ("999999", LONGEST_REST),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 1.0),
        (formatdate(NOW + 9e6, usegmt=True), LONGEST_REST),
        (None, DEFAULT_REST),
        ("soon", DEFAULT_REST),
        ("-5", DEFAULT_REST),
        ("1e9", DEFAULT_REST),
        ("", DEFAULT_REST),
    ],
)
def test_how_long_to_rest(header: str | None, seconds: float) -> None:
    assert rest_seconds(header, NOW) == seconds


@given(st.text())
def test_anything_else_is_between_the_bounds(header: str) -> None:
    assert 1.0 <= rest_seconds(header, NOW) <= LONGEST_REST


@pytest.mark.parametrize(
    ("headers", "quota"),
    [
        ({"ratelimit-remaining": "76;w=21600", "ratelimit-limit": "100;w=21600"}, Quota(76, 100)),
        ({"ratelimit-remaining": "0"}, Quota(0, None)),
        ({"ratelimit-limit": "100, 200"}, Quota(None, 100)),
        ({"ratelimit-remaining": "many"}, None),
        ({}, None),
    ],
)
def test_quotas(headers: dict[str, str], quota: Quota | None) -> None:
    assert parse_quota(headers) == quota
