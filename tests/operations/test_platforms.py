"""Platforms, held against containerd's rules."""

import json
import platform as machine

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import RequestInvalid
from mirror.operations.platforms import Platform, best, host, of_config, wanted, written

ARCHITECTURES = ("amd64", "386", "arm", "arm64", "s390x", "riscv64", "ppc64le")
VARIANTS = ("", "v1", "v2", "v3", "v5", "v6", "v7", "v8", "v9")
platforms = st.builds(
    Platform.of, st.sampled_from(["linux", "windows"]), st.sampled_from(ARCHITECTURES), st.sampled_from(VARIANTS)
)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("macos/arm64", "darwin/arm64"),
        ("arm64", "linux/arm64"),
        ("s390x", "linux/s390x"),
    ],
)
def test_one_name_for_each(text: str, means: str) -> None:
    assert str(Platform.parse(text)) == means


def test_a_system_alone_is_on_this_machines_architecture() -> None:
    assert Platform.parse("windows") == Platform.of("windows", host().architecture, host().variant)
    assert Platform.parse("linux") == host()


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d", "linux/am d64", "linux/../x", "x" * 65])
def test_nonsense(text: str) -> None:
    with pytest.raises(RequestInvalid):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("name", "means"), [("x86_64", "linux/amd64"), ("aarch64", "linux/arm64"), ("armv7l", "linux/arm/v7"),
                        ("armv6l", "linux/arm/v6"), ("i686", "linux/386"), ("s390x", "linux/s390x")]
)  # fmt: skip
def test_this_machine(monkeypatch: pytest.MonkeyPatch, name: str, means: str) -> None:
    monkeypatch.setattr(machine, "machine", lambda: name)
    assert str(host()) == means
    assert wanted([]) == (host(),)


def test_several_once_each_and_all() -> None:
    assert wanted(["linux/arm64", "arm64", "linux/amd64"]) == (Platform("linux", "arm64"), Platform("linux", "amd64"))
    assert wanted(["linux/arm64", "all"]) is None


@pytest.mark.parametrize(
    ("wish", "offered", "taken"),
    [
        ("linux/amd64", ["linux/386", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/386"], "linux/386"),
        ("linux/amd64", ["linux/amd64/v2"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], "linux/arm/v6"),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/386", ["linux/amd64"], None),
        ("linux/s390x", ["windows/s390x"], None),
        ("linux/amd64", [], None),
    ],
)
def test_what_serves_best(wish: str, offered: list[str], taken: str | None) -> None:
    parsed = [(text, platform) for text in offered if (platform := written(text)) is not None]
    assert best(Platform.parse(wish), parsed) == taken


def number(variant: str) -> int:
    return int(variant[1:]) if variant else 0


def serves(wish: Platform, offer: Platform) -> bool:
    """containerd's `Only`, once more and in other words."""
    if wish.system != offer.system:
        return False
    if wish == offer:
        return True
    match wish.architecture:
        case "amd64":
            older = offer.architecture == "amd64" and max(number(offer.variant), 1) < max(number(wish.variant), 1)
            return offer == Platform(wish.system, "386") or older
        case "arm":
            return offer.architecture == "arm" and 5 <= number(offer.variant) < number(wish.variant)
        case "arm64":
            plain = bool(wish.variant) and offer == Platform(wish.system, "arm64")
            return plain or (offer.architecture == "arm" and 5 <= number(offer.variant) <= 8)
        case _:
            return False


@given(platforms, st.lists(platforms, max_size=12))
def test_taken_is_what_serves(wish: Platform, offered: list[Platform]) -> None:
    taken = best(wish, list(enumerate(offered)))
    served = [place for place, each in enumerate(offered) if serves(wish, each)]
    assert (taken is None) == (not served)
    if taken is not None:
        assert taken in served
        assert taken == offered.index(offered[taken])  # of equals the first
        if wish in offered:
            assert offered[taken] == wish


@given(platforms)
def test_text_and_back(platform: Platform) -> None:
    assert Platform.parse(str(platform)) == platform == written(str(platform))
    assert next(iter(platform.accepted())) == platform
    config = {"os": platform.system, "architecture": platform.architecture, "variant": platform.variant or None}
    assert of_config(json.dumps(config).encode()) == platform


@given(st.binary(max_size=50) | st.text().map(str.encode))
def test_any_bytes_for_a_config(raw: bytes) -> None:
    assert of_config(raw) is None or raw.startswith(b"{")


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"\xff", b'{"os":1,"architecture":"x"}', b'{"os":"linux"}', b"[" * 9999])
def test_no_platform(raw: bytes) -> None:
    assert of_config(raw) is None


def test_half_a_platform_is_none() -> None:
    assert written(None) is written("") is written("linux") is None
