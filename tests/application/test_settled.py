"""What follows from the settings alone."""

from pathlib import Path
from typing import Any

from mirror.application import settled
from tests.support.mirror import settings_for

NOBODY = "http://127.0.0.1:9"


def test_settings_become_policy(tmp_path: Path) -> None:
    section = {"url": NOBODY, "tag_ttl": "5m", "immutable_tags": [r"^v\d"]}
    more: dict[str, Any] = {"offline": True, "on_upstream_gone": "follow", "private_stale": "2d"}
    policy = settled.policy_of(settings_for(tmp_path / "d", {"docker.io": section}, **more))
    assert (policy.offline, policy.keep_gone, policy.private_stale) == (True, False, 2 * 86400)
    assert policy.of("docker.io").tag_ttl == 300
    assert (policy.of("docker.io").immutable("v1"), policy.of("docker.io").immutable("latest")) == (True, False)
    default = settled.policy_of(settings_for(tmp_path / "d", {"docker.io": NOBODY}))
    assert (default.offline, default.keep_gone, default.private_stale) == (False, True, 7 * 86400)


def test_settings_become_the_place(tmp_path: Path) -> None:
    settings = settings_for(
        tmp_path / "d",
        {"docker.io": {"url": ["http://a:1", "http://b:1"]}, "off.io": {"enabled": False, "url": NOBODY}},
    )
    place = settled.place_of(settings, "me")
    assert dict(place.urls) == {"docker.io": ("http://a:1", "http://b:1")}
    assert "off.io" in place.disabled
    assert (place.data, place.instance) == (tmp_path / "d", "me")


def test_disabled_registries_are_not_asked(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "d", {"docker.io": NOBODY, "off.io": {"enabled": False, "url": NOBODY}})
    assert set(settled.enabled(settings)) == {"docker.io"}
