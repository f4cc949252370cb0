"""Digests: only well-formed ones exist."""

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import DigestInvalid
from mirror.oci.digest import Digest, new_hasher

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

algorithms = st.sampled_from(["sha256", "sha512"])
digests = st.builds(Digest.of, st.binary(max_size=64), algorithms)


@given(digests)
def test_text_round_trip(digest: Digest) -> None:
    assert Digest.parse(str(digest)) == digest


@given(digests)
def test_packed_round_trip(digest: Digest) -> None:
    packed = digest.to_bytes()
    assert len(packed) == 1 + len(digest.hex) // 2
    assert Digest.from_bytes(packed) == digest


@given(st.binary(max_size=64), algorithms)
def test_of_is_what_the_hasher_finds(data: bytes, algorithm: str) -> None:
    digest = Digest.of(data, algorithm)
    hasher = digest.hasher()
    hasher.update(data)
    assert hasher.hexdigest() == digest.hex == hashlib.new(algorithm, data).hexdigest()
    assert new_hasher(algorithm).name == algorithm == digest.algorithm


def test_the_empty_blob() -> None:
    digest = Digest.of(b"")
    assert str(digest) == EMPTY
    assert digest.short == "e3b0c44298fc"
    assert hash(digest) == hash(Digest.parse(EMPTY))


def test_packed_form_is_on_disk_for_good() -> None:
    assert Digest.of(b"").to_bytes() == b"\x01" + hashlib.sha256(b"").digest()
    assert Digest.of(b"", "sha512").to_bytes() == b"\x02" + hashlib.sha512(b"").digest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        EMPTY[:-1],
        EMPTY + "0",
        EMPTY + "\n",
        " " + EMPTY,
        EMPTY.upper(),
        "sha256:" + EMPTY[7:].upper(),
        "SHA256:" + EMPTY[7:],
        EMPTY.replace("sha256", "sha512"),
        EMPTY.replace("sha256", "md5"),
        EMPTY.replace("sha256", "sha384"),
        "sha256:sha256:" + EMPTY[7:],
        "sha256:../../../../etc/passwd",
        "sha256:" + "/" * 64,
        "sha256:" + "\u0663" * 64,  # a digit elsewhere
        "sha256+b64:" + EMPTY[7:],
        "sha256:" + "a" * 1_000_000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalid) as caught:
        Digest.parse(text)
    assert len(caught.value.message) < 120  # what a stranger wrote is not repeated into logs
    algorithm, _, encoded = text.partition(":")
    with pytest.raises(DigestInvalid):
        Digest(algorithm, encoded)


@given(st.text() | st.from_regex(r"sha(256|512):[0-9a-fA-F]{60,130}"))
def test_hostile_text_raises_nothing_else(text: str) -> None:
    with contextlib.suppress(DigestInvalid):
        assert str(Digest.parse(text)) == text


@given(st.binary(max_size=80))
def test_hostile_bytes_raise_nothing_else(packed: bytes) -> None:
    with contextlib.suppress(DigestInvalid):
        assert Digest.from_bytes(packed).to_bytes() == packed


@pytest.mark.parametrize("algorithm", ["", "md5", "sha1", "SHA256", "shake_128"])
def test_unknown_algorithms(algorithm: str) -> None:
    with pytest.raises(DigestInvalid):
        new_hasher(algorithm)
    with pytest.raises(DigestInvalid):
        Digest.of(b"", algorithm)
