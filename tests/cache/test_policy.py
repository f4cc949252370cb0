import re

import pytest

from mirror.cache.policy import Policy, PushMode, RegistryPolicy


@pytest.mark.parametrize(("pattern", "tag", "immutable"), [
    (r"^v?\d+\.\d+\.\d+$", "v1.2.3", True),
    (r"^v?\d+\.\d+\.\d+$", "v1.2", False),
    (r"sha-", "main-sha-abc", True),
    (r"sha-", "latest", False),
])  # fmt: skip
def test_immutable_tags_are_searched_for(pattern: str, tag: str, immutable: bool) -> None:
    assert RegistryPolicy(60, (re.compile("^never$"), re.compile(pattern))).immutable(tag) is immutable


def test_no_tag_is_immutable_unless_somebody_says_so() -> None:
    assert not RegistryPolicy().immutable("v1.2.3")


def test_an_unnamed_registry_has_the_defaults() -> None:
    policy = Policy(registries={"ghcr.io": RegistryPolicy(tag_ttl=5)})
    assert (policy.of("ghcr.io").tag_ttl, policy.of("quay.io").tag_ttl) == (5, 60)
    assert (policy.of("ghcr.io").push, policy.of("quay.io").push) == (PushMode.DENY, PushMode.DENY)
    assert (policy.offline, policy.keep_gone, policy.private_stale) == (False, True, 7 * 86400)
