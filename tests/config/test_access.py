import re

import pytest
from pydantic import ValidationError

from mirror.config.access import AccessRule, AccessSettings, check_glob, check_own_glob, split_glob
from mirror.config.model import Settings

RULE = {"users": ["ci"], "repositories": ["team/*"], "allow": ["pull"]}


@pytest.mark.parametrize(("glob", "registry", "path"), [
    ("ghcr.io/me/*", "ghcr.io", "me/*"), ("localhost/x", "localhost", "x"), ("host:5000/x", "host:5000", "x"),
    ("*.example.com/**", "*.example.com", "**"), ("team/*", None, "team/*"), ("team", None, "team"), ("**", None, "**"),
    ("team/x.y", None, "team/x.y"), ("app.one", None, "app.one"),
])  # fmt: skip
def test_a_registry_in_a_glob_is_told_from_a_path(glob: str, registry: str | None, path: str) -> None:
    assert split_glob(glob) == (registry, path)
    assert check_glob(glob) == glob


@pytest.mark.parametrize(("glob", "checked"), [
    ("index.docker.io/library/x", "docker.io/library/x"), ("GHCR.IO:443/me/*", "ghcr.io/me/*"),
    ("docker.io/**", "docker.io/**"), ("docker.io/a*/b", "docker.io/a*/b"),
])  # fmt: skip
def test_registries_get_their_one_form(glob: str, checked: str) -> None:
    assert check_glob(glob) == checked


@pytest.mark.parametrize(("glob", "says"), [
    ("docker.io/alpine", 'write "docker.io/library/alpine"'), ("docker.io/*", 'write "docker.io/library/*"'),
    ("Team/*", "names are lower case"), ("team/x:1", "without a tag"), ("/x", "is no glob"), ("x/", "is no glob"),
    ("a//b", "is no glob"), ("", "is no glob"), ("a[b]", "is no glob"), ("a..b.io:99999/x", "is no registry host"),
])  # fmt: skip
def test_globs_that_cannot_match_what_is_meant(glob: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        check_glob(glob)


def test_own_globs_name_no_registry() -> None:
    assert check_own_glob("team/secret-*") == "team/secret-*"
    with pytest.raises(ValueError, match="names a registry; only own names"):
        check_own_glob("ghcr.io/team/*")


@pytest.mark.parametrize("globs", [["library/x"], ["library/*"], ["library"]])
def test_library_is_never_an_own_name(globs: list[str]) -> None:
    with pytest.raises(ValidationError, match="Docker Hub's own"):
        Settings.model_validate({"data": "/d", "own": globs})


def test_rules_are_read() -> None:
    settings = AccessSettings.model_validate({"rules": [RULE, {**RULE, "users": ["*"], "allow": ["push", "admin"]}]})
    assert settings.rules == (
        AccessRule(("ci",), ("team/*",), ("pull",)),
        AccessRule(("*",), ("team/*",), ("push", "admin")),
    )


@pytest.mark.parametrize(("rules", "says"), [
    (5, "found a number, allowed: tables"),
    ({"users": []}, "found a table, allowed: tables"),
    (["x"], "rule 1: found a text, allowed: a table"),
    ([RULE, {**RULE, "user": ["x"]}], 'rule 2: user: no such key; did you mean "users"?'),
    ([{**RULE, "zzz": 1}], "rule 1: zzz: no such key; allowed: users, repositories, allow"),
    ([{"repositories": ["x"], "allow": ["pull"]}], "rule 1: users: missing; write a list"),
    ([{**RULE, "users": "ci"}], "rule 1: users: found a text; write a list"),
    ([{**RULE, "users": []}], "rule 1: users: found an empty list"),
    ([{**RULE, "users": [True]}], "rule 1: users: found another list"),
    ([{**RULE, "users": ["a:b"]}], "rule 1: users: 'a:b' is no user name"),
    ([{**RULE, "repositories": ["Team"]}], "rule 1: repositories: 'Team' is no glob"),
    ([{**RULE, "repositories": True}], "rule 1: repositories: found a switch"),
    ([{**RULE, "allow": ["read"]}], 'rule 1: allow: found "read", allowed: pull, push, delete, admin'),
])  # fmt: skip
def test_wrong_rules_say_which_and_what(rules: object, says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        AccessSettings.model_validate({"rules": rules})


def test_host_names_in_one_form() -> None:
    settings = AccessSettings.model_validate({"hosts": ["Mirror.Example.COM.", "box", "a_b"]})
    assert settings.hosts == ("mirror.example.com", "box", "a_b")


@pytest.mark.parametrize(
    "host", ["mirror:5000", "http://x", "", "a b", "-a", "a..b", "x" * 254, "*.example.com", "[::1]"]
)
def test_what_is_no_host_name(host: str) -> None:
    with pytest.raises(ValidationError, match="is no host name"):
        AccessSettings.model_validate({"hosts": [host]})
