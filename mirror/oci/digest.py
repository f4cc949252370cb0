"""Digests: bytes named by their hash (OCI image specification, descriptor.md, "Digests").

    digest     ::= algorithm ":" encoded
    sha256     encoded is /[a-f0-9]{64}/
    sha512     encoded is /[a-f0-9]{128}/

Only the two registered algorithms of fixed length are known; the others are refused, for they would let a
client name bytes that nothing here can verify.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from mirror.errors import DigestInvalid

if TYPE_CHECKING:
    from hashlib import _Hash

_ENCODED = {
    "sha256": re.compile(r"[a-f0-9]{64}"),
    "sha512": re.compile(r"[a-f0-9]{128}"),
}
_HASHERS = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}
# The byte in front of the hash in the database. On disk for good: never renumber.
_ALGORITHM_BYTES = {"sha256": b"\x01", "sha512": b"\x02"}
_ALGORITHMS = {byte[0]: algorithm for algorithm, byte in _ALGORITHM_BYTES.items()}
_SHORT = 12
ALGORITHMS = tuple(_HASHERS)
_UNKNOWN_ALGORITHM = "unknown digest algorithm: sha256 and sha512 are supported"


def new_hasher(algorithm: str) -> "_Hash":
    """A fresh hash object of a known algorithm; raises `DigestInvalid` for any other."""
    try:
        return _HASHERS[algorithm]()
    except KeyError:
        raise DigestInvalid(_UNKNOWN_ALGORITHM) from None


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """Algorithm and lower-case hex. One that exists is well formed, so it is safe in a path or a file name.

    The constructor raises `DigestInvalid` for anything else.
    """

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        encoded = _ENCODED.get(self.algorithm)
        if encoded is None:
            raise DigestInvalid(_UNKNOWN_ALGORITHM)
        if encoded.fullmatch(self.hex) is None:
            raise DigestInvalid(f"malformed {self.algorithm} digest: lower-case hex of its exact length is needed")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `algorithm:hex`. Raises `DigestInvalid`."""
        algorithm, _, encoded = text.partition(":")
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> Self:
        """The digest of `data`. Raises `DigestInvalid` for an unknown algorithm."""
        hasher = new_hasher(algorithm)
        hasher.update(data)
        return cls(algorithm, hasher.hexdigest())

    @classmethod
    def from_bytes(cls, packed: bytes) -> Self:
        """The inverse of `to_bytes`. Raises `DigestInvalid`."""
        if not packed or packed[0] not in _ALGORITHMS:
            raise DigestInvalid("malformed packed digest: no known algorithm byte")
        return cls(_ALGORITHMS[packed[0]], packed[1:].hex())

    def to_bytes(self) -> bytes:
        """One algorithm byte and the raw hash: how a database keeps it."""
        return _ALGORITHM_BYTES[self.algorithm] + bytes.fromhex(self.hex)

    def hasher(self) -> "_Hash":
        """A fresh hash object of this digest's algorithm."""
        return new_hasher(self.algorithm)

    @property
    def short(self) -> str:
        """The first 12 hex digits, for people."""
        return self.hex[:_SHORT]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"
