"""Names: the grammar of the specification, docker's defaults, one canonical form."""

import contextlib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror.errors import DigestInvalid, NameInvalid
from mirror.oci.digest import Digest
from mirror.oci.names import (
    DOCKER_HUB,
    LOCAL,
    NAME_LIMIT,
    Name,
    Reference,
    Repository,
    canonical_registry,
    is_registry,
    split_reference,
    valid_path,
    valid_tag,
    with_library,
)

# Letter for letter as the specification has them, to compare with the ones in the module.
SPEC_NAME = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
SPEC_TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"

DIGEST = Digest.of(b"")

components = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
paths = st.lists(components, min_size=1, max_size=4).map("/".join)
hosts = st.one_of(
    st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,4})?(\.[a-z0-9]{1,8}){0,3}(:[1-9][0-9]{0,3})?", fullmatch=True),
    st.sampled_from(["docker.io", "index.docker.io", "ghcr.io", "localhost", "localhost:5000", "local", "local:443"]),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address.exploded}]:5000"),
)
registries = hosts.map(canonical_registry)
tags = st.from_regex(SPEC_TAG, fullmatch=True)
digests = st.builds(Digest.of, st.binary(max_size=8), st.sampled_from(["sha256", "sha512"]))
own_paths = paths.filter(lambda path: not is_registry(path.partition("/")[0]))
repositories = st.one_of(
    st.builds(Repository, registries, paths),
    st.builds(Repository, st.just(DOCKER_HUB), paths),
    st.builds(Repository, st.just(LOCAL), own_paths),
)
names = st.builds(Name, registries, paths) | st.builds(Name, st.none(), own_paths)
references = st.one_of(
    st.builds(Reference, repositories, tags, st.none() | digests),
    st.builds(Reference, repositories, st.none() | tags, digests),
)
texts = st.text(alphabet="abAB01.:-_/@[]%\\ \n\x00é\u0663", max_size=40) | st.text()


@given(paths | texts | st.from_regex(SPEC_NAME, fullmatch=True))
@example("a\n")
@example("a____b")
@example("a..b")
@example("a-_b")
def test_paths_are_those_of_the_specification(path: str) -> None:
    in_grammar = re.fullmatch(SPEC_NAME, path, re.ASCII) is not None
    assert valid_path(path) == (in_grammar and len(path) <= NAME_LIMIT)


@given(tags | texts)
@example("latest\n")
def test_tags_are_those_of_the_specification(tag: str) -> None:
    assert valid_tag(tag) == (re.fullmatch(SPEC_TAG, tag, re.ASCII) is not None)


def test_limits() -> None:
    assert valid_path("a" * 255)
    assert not valid_path("a" * 256)
    assert valid_tag("a" * 128)
    assert not valid_tag("a" * 129)
    assert Repository("ghcr.io", "a" * 247).path == "a" * 247
    with pytest.raises(NameInvalid):
        Repository("ghcr.io", "a" * 248)
    with pytest.raises(NameInvalid):
        Name("ghcr.io", "a" * 248)
    assert Repository(LOCAL, "a" * 255).is_own
    assert Name(None, "a" * 255).registry is None


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("docker.io", "docker.io"),
        ("Docker.IO", "docker.io"),
        ("docker.io:443", "docker.io"),
        ("docker.io.", "docker.io"),
        ("docker.io.:443", "docker.io"),
        ("docker.io:0443", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("index.docker.io:443", "docker.io"),
        ("registry.hub.docker.com", "docker.io"),
        ("docker.io:80", "docker.io:80"),
        ("index.docker.io:5000", "index.docker.io:5000"),
        ("GHCR.io", "ghcr.io"),
        ("localhost", "localhost"),
        ("LocalHost:443", "localhost"),
        ("localhost:5000", "localhost:5000"),
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("[::1]", "[::1]"),
        ("[0:0:0:0:0:0:0:1]:443", "[::1]"),
        ("[2001:DB8::1]:5000", "[2001:db8::1]:5000"),
        # a host of one word keeps its port: it must be known for a host where it stands before a path
        ("build", "build:443"),
        ("build:443", "build:443"),
        ("build:5000", "build:5000"),
    ],
)
def test_canonical_registry(host: str, canonical: str) -> None:
    assert canonical_registry(host) == canonical


@pytest.mark.parametrize("host", ["local", "LOCAL", "local.", "local:443", "local:5000"])
def test_no_host_is_the_own_registry(host: str) -> None:
    """Else `?ns=local` would read the mirror's own repositories as an upstream's, past their rights."""
    assert canonical_registry(host) != LOCAL
    assert not Repository(canonical_registry(host), "team/app").is_own
    with pytest.raises(NameInvalid):
        Name(LOCAL, "team/app")


@pytest.mark.parametrize(
    "host",
    [
        "", ".", "..", ":", ":443", "a..b", ".a", "a.-b", "-a.b", "a-.b", "a_b.c", "a b.c", "a.b:", "a.b:0",
        "a.b:65536", "a.b:-1", "a.b:99999999", "a.b:80:80", "a.b/c", "user@a.b", "user:pass@a.b", "http://a.b",
        "a.b?x", "a.b#x", "a.b\n", "a.b\x00", "a%2eb", "é.io", "\u212a.io", "a" * 64 + ".io", "a." * 130 + "io",
        "::1", "[::1", "::1]", "[]", "[::g]", "[::1%25eth0]", "[1.2.3.4]", "[::1]x", "a.b:\u0664\u0664\u0663",
    ],
)  # fmt: skip
def test_garbage_is_no_registry(host: str) -> None:
    with pytest.raises(NameInvalid):
        canonical_registry(host)


@given(hosts)
def test_canonical_is_idempotent_and_recognised(host: str) -> None:
    canonical = canonical_registry(host)
    assert canonical_registry(canonical) == canonical
    assert canonical_registry(host.upper()) == canonical
    assert is_registry(canonical)


@pytest.mark.parametrize(
    ("component", "expected"),
    [("ghcr.io", True), ("a:5000", True), ("localhost", True), ("LOCALHOST", True), ("[::1]", True), ("..", True),
     ("library", False), ("local", False), ("localhosts", False), ("", False)],
)  # fmt: skip
def test_is_registry(component: str, expected: bool) -> None:
    assert is_registry(component) is expected


def test_library() -> None:
    assert with_library("docker.io", "alpine") == "library/alpine"
    assert with_library("docker.io", "org/x") == "org/x"
    assert with_library("ghcr.io", "alpine") == "alpine"
    assert with_library(None, "alpine") == "alpine"


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("alpine", "docker.io/library/alpine", "alpine"),
        ("library/alpine", "docker.io/library/alpine", "alpine"),
        ("docker.io/alpine", "docker.io/library/alpine", "alpine"),
        ("index.docker.io/library/alpine", "docker.io/library/alpine", "alpine"),
        ("org/x", "docker.io/org/x", "org/x"),
        ("library/x/y", "docker.io/library/x/y", "library/x/y"),
        ("local/x", "docker.io/local/x", "local/x"),
        ("ghcr.io/a/b", "ghcr.io/a/b", "ghcr.io/a/b"),
        ("GHCR.io:443/a", "ghcr.io/a", "ghcr.io/a"),
        ("localhost/x", "localhost/x", "localhost/x"),
        ("localhost:5000/x", "localhost:5000/x", "localhost:5000/x"),
        ("localhost", "docker.io/library/localhost", "localhost"),
        ("my.app", "docker.io/library/my.app", "my.app"),
        ("docker.io/my.org/app", "docker.io/my.org/app", "docker.io/my.org/app"),
        ("docker.io/localhost/app", "docker.io/localhost/app", "docker.io/localhost/app"),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
    ],
)
def test_repository_parse(text: str, canonical: str, familiar: str) -> None:
    repository = Repository.parse(text)
    assert str(repository) == canonical
    assert repository.familiar == familiar
    assert not repository.is_own


@pytest.mark.parametrize(
    "text",
    ["", "/", "a/", "/a", "a//b", "Alpine", "org/Alpine", "..", "../a", "a/../b", "a/.", "a.b/", "ghcr.io//a", "http://a.b/c",
     "ghcr.io/A", "a b", "a\x00", "é", "alpine:3", "alpine@x", "[::1]/", "a:b", "-a", "a-", "a%2fb", "a\\b"],
)  # fmt: skip
def test_repository_parse_refuses(text: str) -> None:
    with pytest.raises(NameInvalid):
        Repository.parse(text)


def test_own_repositories() -> None:
    own = Repository(LOCAL, "team/app")
    assert own.is_own
    assert str(own) == "local/team/app"
    assert own.familiar == "team/app"
    assert own.name == Name(None, "team/app")
    assert own != Repository.parse("local/team/app")
    with pytest.raises(NameInvalid):  # it would be asked for as a repository of ghcr.io
        Repository(LOCAL, "ghcr.io/app")


def test_constructors_bring_into_canonical_form() -> None:
    assert Repository("Index.Docker.io:443", "alpine") == Repository("docker.io", "library/alpine")
    assert Name("Index.Docker.io:443", "alpine") == Name("docker.io", "library/alpine")
    assert Name(None, "alpine").path == "alpine"


@given(repositories)
def test_repository_round_trips(repository: Repository) -> None:
    assert repository.name == Name(None if repository.is_own else repository.registry, repository.path)
    assert Repository(repository.registry, repository.path) == repository
    if not repository.is_own:
        assert Repository.parse(str(repository)) == repository
        assert Repository.parse(repository.familiar) == repository


def test_repositories_have_an_order() -> None:
    assert sorted([Repository.parse("ghcr.io/b"), Repository.parse("b"), Repository.parse("a")]) == [
        Repository.parse("a"),
        Repository.parse("b"),
        Repository.parse("ghcr.io/b"),
    ]


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
        ("alpine:3", "docker.io/library/alpine:3", "alpine:3"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}", f"alpine@{DIGEST}"),
        (f"alpine:3@{DIGEST}", f"docker.io/library/alpine:3@{DIGEST}", f"alpine:3@{DIGEST}"),
        ("localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"),
        ("localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("[::1]:5000/x:1", "[::1]:5000/x:1", "[::1]:5000/x:1"),
    ],
)
def test_reference_parse(text: str, canonical: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == canonical
    assert reference.familiar == familiar


def test_the_digest_wins() -> None:
    assert Reference.parse("alpine:3").target == "3"
    assert Reference.parse(f"alpine@{DIGEST}").target == DIGEST
    both = Reference.parse(f"alpine:3@{DIGEST}")
    assert (both.tag, both.digest, both.target) == ("3", DIGEST, DIGEST)


@pytest.mark.parametrize(
    "text",
    ["", ":", "alpine:", "alpine:-1", "alpine:a/b", "alpine:a:b", f"alpine:@{DIGEST}", "alpine: ", f"@{DIGEST}",
     "alpine:é", "alpine:" + "a" * 129, "http://alpine"],
)  # fmt: skip
def test_reference_parse_refuses_names_and_tags(text: str) -> None:
    with pytest.raises(NameInvalid):
        Reference.parse(text)


@pytest.mark.parametrize(
    "text", ["alpine@", "alpine@latest", "alpine@sha256:1", f"alpine@{DIGEST}@{DIGEST}", f"alpine@{DIGEST}:3"]
)
def test_reference_parse_refuses_digests(text: str) -> None:
    with pytest.raises(DigestInvalid):
        Reference.parse(text)


@pytest.mark.parametrize(("text", "parts"), [
    ("alpine", ("alpine", "latest", None)), ("alpine:3", ("alpine", "3", None)),
    ("host:5000/a", ("host:5000/a", "latest", None)), ("host:5000/a:b", ("host:5000/a", "b", None)),
    ("a@d", ("a", None, "d")), ("a:b@c:d@e", ("a", "b", "c:d@e")), ("a@", ("a", None, "")), ("", ("", "latest", None)),
])  # fmt: skip
def test_the_parts_of_a_reference(text: str, parts: tuple[str, str | None, str | None]) -> None:
    assert split_reference(text) == parts


def test_a_reference_needs_a_target() -> None:
    with pytest.raises(NameInvalid):
        Reference(Repository.parse("alpine"), None, None)
    with pytest.raises(NameInvalid):
        Reference(Repository.parse("alpine"), "", DIGEST)


@given(references)
def test_reference_round_trips(reference: Reference) -> None:
    if not reference.repository.is_own:
        assert Reference.parse(str(reference)) == reference
        assert Reference.parse(reference.familiar) == reference


@given(texts, texts)
@example("a.b:" + "9" * 100, "a")
def test_hostile_text_raises_nothing_else(one: str, other: str) -> None:
    for attempt in (
        lambda: canonical_registry(one),
        lambda: Repository.parse(one),
        lambda: Repository(one, other),
        lambda: Name(one, other),
        lambda: Name(None, one),
        lambda: Reference.parse(one),
        lambda: Reference.parse(f"{one}@{other}"),
    ):
        with contextlib.suppress(NameInvalid, DigestInvalid):
            attempt()


@pytest.mark.parametrize("text", ["a" * 1_000_000, "a-" * 500_000, "a/" * 500_000, "." * 1_000_000, "a.a" * 300_000])
def test_overlong_text_is_cheap(text: str) -> None:
    assert not valid_path(text)
    with pytest.raises(NameInvalid):
        canonical_registry(text)
    with pytest.raises(NameInvalid):
        Reference.parse(text)
