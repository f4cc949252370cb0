import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.config import values
from mirror.config.model import RegistrySettings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("500ms", 0.5),
        ("30s", 30),
        ("1.5m", 90),
        ("12h", 43200),
        ("7d", 604800),
        ("2w", 1209600),
        (" 5s ", 5),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert values.parse_duration(text) == seconds


@pytest.mark.parametrize("wrong", ["soon", "5", "-5s", "5 s s", "1e3s", "", True, None, [5], "5S"])
def test_what_is_no_duration_is_refused_with_an_example(wrong: object) -> None:
    with pytest.raises(ValueError, match='write one such as "30s"'):
        values.parse_duration(wrong)


@given(st.integers(min_value=0, max_value=10**12))
def test_milliseconds_survive_writing_and_reading(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert values.parse_duration(values.format_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("entry", "parsed"),
    [
        ("127.0.0.1:5000", ("127.0.0.1", 5000)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:5000", ("::1", 5000)),
        ("[0:0:0:0:0:0:0:1]:65535", ("::1", 65535)),
        ("mirror-1.example.com:80", ("mirror-1.example.com", 80)),
    ],
)
def test_listen_entries_are_read_and_written_back(entry: str, parsed: tuple[str, int]) -> None:
    assert values.parse_listen(entry) == parsed
    assert values.parse_listen(values.format_listen(*parsed)) == parsed


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("5000", 'write "127.0.0.1:5000" (this machine) or "0.0.0.0:5000" (everyone)'),
        (":8080", 'write "127.0.0.1:8080"'),
        ("::1:5000", "stands in brackets"),
        ("[::g]:5000", "no IPv6 address"),
        ("[127.0.0.1]:5000", "no IPv6 address"),
        ("localhost", "no HOST:PORT"),
        ("localhost:http", "'http' is no port"),
        ("localhost:65536", "'65536' is no port"),
        ("localhost:٥", "is no port"),
        ("http://x:5000", "in brackets"),
        ("a b:1", "neither an address nor a host name"),
        ("", "no HOST:PORT"),
    ],
)
def test_wrong_listen_entries_say_what_to_write(entry: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        values.parse_listen(entry)


@given(st.text())
def test_any_text_is_an_entry_or_a_value_error(text: str) -> None:
    try:
        host, port = values.parse_listen(text)
    except ValueError:
        return
    assert host
    assert 0 <= port <= 65535


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://registry-1.docker.io", "https://registry-1.docker.io"),
        ("https://Registry.Example.com:5000/", "https://registry.example.com:5000"),
        ("http://127.0.0.1:5000/prefix/", "http://127.0.0.1:5000/prefix"),
        ("http://[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_urls_are_normalised(url: str, normal: str) -> None:
    assert values.check_url(url) == normal


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("registry.example.com", "no http or https URL"),
        ("ftp://registry.example.com", "no http or https URL"),
        ("https://", "no http or https URL"),
        ("https://x:99999", "is no URL"),
        ("https://[::1", "is no URL"),
        ("https://x/?a=b", "from the question mark"),
        ("https://x/#a", "from the question mark"),
        ("https://x?", "from the question mark"),
        ("https://x/v2/", "leave out /v2"),
        ("https://x/a b", "white space"),
        ("https://user:secret@x", "use username and password_file"),
    ],
)
def test_wrong_urls_say_what_is_wrong_and_keep_the_secret(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        values.check_url(url)
    assert "secret" not in str(caught.value)


@given(st.text(), st.sampled_from(["https://", "http://", ""]))
def test_any_text_is_a_url_or_a_value_error(text: str, scheme: str) -> None:
    try:
        url = values.check_url(scheme + text)
    except ValueError:
        return
    assert values.check_url(url) == url


def test_passwords_in_urls_are_masked() -> None:
    assert values.mask("see http://u:secret@proxy:1 and https://x/a@b") == (
        f"see http://{values.HIDDEN}@proxy:1 and https://x/a@b"
    )


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:5000", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:5000", True),
        ("http://localhost", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example.com", False),
    ],
)
def test_loopback_is_told_from_other_machines(url: str, loopback: bool) -> None:
    assert values.is_loopback(url) is loopback


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("proxy", "socks5://x:1", "no http or https URL"),
        ("proxy", "http://x:1/path", "without a path"),
        ("addresses", ["10.0.0.0/40"], "write networks such as"),
        ("realms", ["auth..example.com"], "no registry host"),
        ("immutable_tags", ["ok", "("], "no regular expression"),
        ("url", [], "at least one URL"),
        ("url", ["https://x", "https://X/"], "twice"),
        ("username", "a\nb", "control character"),
        ("ca_file", "", "the path is empty"),
        ("connect_timeout", 0, "greater than 0"),
    ],
)
def test_each_kind_of_value_is_checked(key: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RegistrySettings.model_validate({"url": "https://x", key: value})
