"""Names of registries, repositories and images: the whole grammar in one file.

Two specifications meet here. Paths and tags follow the OCI distribution specification ("Pulling manifests");
registries, defaults and short forms follow docker (github.com/distribution/reference, `reference.go` and
`normalize.go`). What is written in capitals above each pattern is that text.

Every `Name`, `Repository` and `Reference` that exists is valid and canonical: their constructors check what
they are given, and bring it into its one form. They raise `NameInvalid`, and nothing else.
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Self, cast

from mirror.errors import NameInvalid
from mirror.oci.digest import Digest

DOCKER_HUB = "docker.io"
"""The canonical name of Docker Hub, and docker's default registry."""

LOCAL = "local"
"""The registry of the mirror's own repositories. It has no dot, colon or port: no host is ever called so."""

NAME_LIMIT = 255
"""Characters of `registry/path` (docker's NameTotalLengthMax); of the path alone where there is no host."""

DEFAULT_TAG = "latest"
_LIBRARY = "library/"

# distribution-spec, "Pulling manifests":
#   <name> MUST match the following regular expression:
#   [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*
# Written so that no two alternatives can match the same text: linear on any input.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")

# distribution-spec, "Pulling manifests":
#   Throughout this document, <reference> as a tag MUST be at most 128 characters in length and MUST match the
#   following regular expression: [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")

# distribution/reference, reference.go:
#   domain               := host [':' port-number]
#   host                 := domain-name | IPv4address | \[ IPv6address \]
#   domain-name          := domain-component ['.' domain-component]*
#   domain-component     := /([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])/
#   port-number          := /[0-9]+/
# Here already in lower case, a component of at most 63 characters (RFC 1035, 2.3.4), and with the trailing dot
# of an absolute name.
_DOMAIN_COMPONENT = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(
    rf"(?:(?P<name>{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*)\.?|\[(?P<ipv6>[0-9a-f:.]{{2,45}})\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_HTTPS = 443
_LAST_PORT = 65535

# All of these are Docker Hub: the host its clients talk to, the one in old credentials, the one in old references.
_HUB_ALIASES = frozenset({"registry-1.docker.io", "index.docker.io", "registry.hub.docker.com"})


def valid_path(path: str) -> bool:
    """Whether this is a repository path of the distribution specification, of at most 255 characters."""
    return len(path) <= NAME_LIMIT and _PATH.fullmatch(path) is not None


def valid_tag(tag: str) -> bool:
    """Whether this is a tag of the distribution specification."""
    return _TAG.fullmatch(tag) is not None


def is_registry(component: str) -> bool:
    """Whether the first component of a name means a registry: a dot, a colon, or `localhost` (docker's rule)."""
    return "." in component or ":" in component or component.lower() == "localhost"


def with_library(registry: str | None, path: str) -> str:
    """The path, with `library/` in front where docker.io is meant and the path has one component only."""
    return _LIBRARY + path if registry == DOCKER_HUB and "/" not in path else path


def canonical_registry(host: str) -> str:
    """The one name of a registry: lower case, without `:443` and trailing dot, Docker Hub's hosts as `docker.io`.

    IPv6 literals stand in brackets, compressed. The result is always one that `is_registry` recognises, so that
    it can stand in front of a path: a host of one word keeps its port (`build` and `build:443` are `build:443`),
    and `LOCAL` is never a result. Idempotent. Raises `NameInvalid` for what is no `host[:port]`.
    """
    if len(host) > NAME_LIMIT:  # before the cache, which would keep it
        raise NameInvalid("not a registry: the host name is too long")
    return _canonical_registry(host)


@lru_cache(maxsize=1024)
def _canonical_registry(host: str) -> str:
    match = _DOMAIN.fullmatch(host.lower()) if host.isascii() else None
    if match is None:
        raise NameInvalid("not a registry: a host name with an optional port is needed")
    port = _port(match["port"])
    name = match["name"] or _bracketed(match["ipv6"])
    if port == _HTTPS and is_registry(name):
        return DOCKER_HUB if name in _HUB_ALIASES else name
    return f"{name}:{port}"


def _port(digits: str | None) -> int:
    port = int(digits) if digits else _HTTPS
    if not 0 < port <= _LAST_PORT:
        raise NameInvalid("not a registry: the port is out of range")
    return port


def _bracketed(address: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(address).compressed}]"
    except ValueError:
        raise NameInvalid("not a registry: malformed IPv6 address") from None


def _check_path(registry: str | None, path: str) -> None:
    if not valid_path(path):
        raise NameInvalid(
            "invalid repository name: lower-case letters, digits and the separators . _ __ - between them, "
            f"components parted by /, at most {NAME_LIMIT} characters"
        )
    if registry is None or registry == LOCAL:
        if is_registry(path.partition("/")[0]):
            raise NameInvalid("invalid repository name: it begins with a registry, and no repository follows")
    elif len(registry) + 1 + len(path) > NAME_LIMIT:
        raise NameInvalid(f"invalid repository name: longer than {NAME_LIMIT} characters with its registry")


@dataclass(frozen=True, slots=True)
class Name:
    """What a request says: a registry, or none, and a path. Which repository that is, `cache.names` decides.

    A path without a registry never begins with what `is_registry` takes for one; `LOCAL` is never the registry
    of a request. Raises `NameInvalid`.
    """

    registry: str | None
    path: str

    def __post_init__(self) -> None:
        if self.registry is not None:
            if self.registry == LOCAL:
                raise NameInvalid("the mirror's own repositories are named without a registry")
            object.__setattr__(self, "registry", canonical_registry(self.registry))
            object.__setattr__(self, "path", with_library(self.registry, self.path))
        _check_path(self.registry, self.path)


@dataclass(frozen=True, slots=True, order=True)
class Repository:
    """A registry and a path, canonical: `docker.io/library/alpine`. Raises `NameInvalid`.

    The registry `LOCAL` is reached through the constructor only: text never names it.
    """

    registry: str
    path: str

    def __post_init__(self) -> None:
        if self.registry != LOCAL:
            object.__setattr__(self, "registry", canonical_registry(self.registry))
            object.__setattr__(self, "path", with_library(self.registry, self.path))
        _check_path(self.registry, self.path)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what a person writes, with docker's defaults. Raises `NameInvalid`.

        As in docker, one component alone is never a registry: `localhost` is docker.io/library/localhost.
        """
        first, slash, rest = text.partition("/")
        if slash and is_registry(first):
            return cls(first, rest)
        return cls(DOCKER_HUB, text)

    @property
    def is_own(self) -> bool:
        """Whether it lives in this mirror only."""
        return self.registry == LOCAL

    @property
    def name(self) -> Name:
        """How a request says it."""
        return Name(None if self.is_own else self.registry, self.path)

    @property
    def familiar(self) -> str:
        """The shortest form docker would print, which `parse` reads back; own repositories by their bare path."""
        if self.is_own:
            return self.path
        if self.registry != DOCKER_HUB:
            return str(self)
        rest = self.path.removeprefix(_LIBRARY)
        if "/" not in rest and rest != self.path:
            return rest
        # docker.io/my.org/app without its registry would be read as a repository of my.org
        return str(self) if is_registry(self.path.partition("/")[0]) else self.path

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}"


def split_reference(text: str) -> tuple[str, str | None, str | None]:
    """The parts of `name[:tag][@digest]` as they are written; docker's default tag where there is neither a tag nor a
    digest. Raises `NameInvalid` where nothing follows a colon."""
    name, at, digest = text.partition("@")
    start, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # no colon, or one that belongs to a port
        start, tag = name, "" if at else DEFAULT_TAG
    elif not tag:
        raise NameInvalid("invalid tag: nothing follows the colon")
    return start, tag or None, digest if at else None


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository with a tag, a digest, or both; where both stand, the digest decides. Raises `NameInvalid`."""

    repository: Repository
    tag: str | None
    digest: Digest | None

    def __post_init__(self) -> None:
        if self.tag is None:
            if self.digest is None:
                raise NameInvalid("a reference needs a tag or a digest")
        elif not valid_tag(self.tag):
            raise NameInvalid("invalid tag: letters, digits, _ . -, beginning with none of . -, at most 128 characters")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `name[:tag][@digest]` with docker's defaults. Raises `NameInvalid`, for the digest `DigestInvalid`."""
        name, tag, digest = split_reference(text)
        return cls(Repository.parse(name), tag, Digest.parse(digest) if digest is not None else None)

    @property
    def target(self) -> str | Digest:
        """What to ask a registry for: the digest if there is one, else the tag."""
        return self.digest or cast("str", self.tag)  # one of them is there: the constructor saw to it

    @property
    def familiar(self) -> str:
        """Docker's short form: `alpine:3`."""
        return self.repository.familiar + self._suffix()

    def __str__(self) -> str:
        return str(self.repository) + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")
