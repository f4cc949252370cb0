"""Challenges: what registries send, well and badly written. Nothing raises."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.challenge import (
    CHALLENGES_LIMIT,
    HEADER_LIMIT,
    HEADERS_LIMIT,
    PARAMETERS_LIMIT,
    Challenge,
    parse_challenges,
)

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull,push"'
HUB_PARAMETERS = {
    "realm": "https://auth.docker.io/token",
    "service": "registry.docker.io",
    "scope": "repository:library/alpine:pull,push",
}


def plain(headers: list[str]) -> list[tuple[str, dict[str, str]]]:
    return [(challenge.scheme, dict(challenge.parameters)) for challenge in parse_challenges(headers)]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        ([""], []),
        ([HUB], [("bearer", HUB_PARAMETERS)]),
        # several lines, several in one line, and which comma parts what
        ([HUB, 'Basic realm="x"'], [("bearer", HUB_PARAMETERS), ("basic", {"realm": "x"})]),
        ([HUB + ', Basic realm="x"'], [("bearer", HUB_PARAMETERS), ("basic", {"realm": "x"})]),
        (['Basic realm="x", ' + HUB], [("basic", {"realm": "x"}), ("bearer", HUB_PARAMETERS)]),
        (["Negotiate, Basic realm=x, NTLM"], [("negotiate", {}), ("basic", {"realm": "x"}), ("ntlm", {})]),
        # RFC 9110, 11.6.1: its own example
        (
            ['Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""'],
            [("basic", {"realm": "simple"}), ("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'})],
        ),
        # case of names, not of values
        (['BEARER REALM="https://A/T",Service=S'], [("bearer", {"realm": "https://A/T", "service": "S"})]),
        # spacing
        (['Bearer   a = "1"  ,\tb= "2" ,, , c ="3"'], [("bearer", {"a": "1", "b": "2", "c": "3"})]),
        (['  ,, Bearer realm="a" '], [("bearer", {"realm": "a"})]),
        (['Bearer realm="a" service="b"'], [("bearer", {"realm": "a", "service": "b"})]),
        (['Bearer ,realm="a"'], [("bearer", {"realm": "a"})]),
        # quoting
        (
            ["Bearer realm=https://auth.example/token?x=1&y=2,service=reg.example"],
            [("bearer", {"realm": "https://auth.example/token?x=1&y=2", "service": "reg.example"})],
        ),
        (['Bearer realm="https://a/t, service=b'], [("bearer", {"realm": "https://a/t", "service": "b"})]),
        (['Bearer realm=""'], [("bearer", {"realm": ""})]),
        (["Bearer service=a,realm="], [("bearer", {"service": "a", "realm": ""})]),
        (['Bearer realm="a\\\\b\\c"'], [("bearer", {"realm": "a\\bc"})]),
        (['Basic realm="a, Bearer realm=b"'], [("basic", {"realm": "a, Bearer realm=b"})]),
        # token68: not kept, and not taken for a parameter
        (["Negotiate YWJj=="], [("negotiate", {})]),
        (["Bearer realm="], [("bearer", {})]),
        (["Negotiate YWJj=, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (["Negotiate a.b-c_d~e+f/g"], [("negotiate", {})]),
        # a scheme follows a comma only: the rest of an unquoted value is none
        (["Bearer scope=a b, service=c"], [("bearer", {"scope": "a", "service": "c"})]),
        # given twice
        (['Bearer realm="a", realm="b"'], [("bearer", {"realm": "a"})]),
        # not understood, skipped
        (['realm="a", Basic realm="b"'], [("basic", {"realm": "b"})]),
        (['"quoted", Basic realm="b"'], [("basic", {"realm": "b"})]),
        (["=, ;;; {json: 1}, Basic realm=b"], [("basic", {"realm": "b"})]),
        (["Bearer/1 realm=a, Basic realm=b"], [("basic", {"realm": "b"})]),
        (['Basic realm="a\r\nSet-Cookie: x", charset=UTF-8'], [("basic", {"charset": "UTF-8"})]),
        (['Basic realm="caf\u00e9"'], [("basic", {"realm": "caf\u00e9"})]),
    ],
)  # fmt: skip
def test_known_headers(headers: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    assert plain(headers) == expected


tokens = st.from_regex(r"[a-z0-9!#$%&'*+.^_`|~-]{1,10}", fullmatch=True)
printable = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(st.lists(st.tuples(tokens, st.dictionaries(tokens, printable, max_size=4)), max_size=4), st.booleans())
def test_round_trip(challenges: list[tuple[str, dict[str, str]]], one_line: bool) -> None:
    def written(scheme: str, parameters: dict[str, str]) -> str:
        quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in parameters.values())
        return scheme + " " + ", ".join(f'{key}="{value}"' for key, value in zip(parameters, quoted, strict=True))

    lines = [written(scheme, parameters) for scheme, parameters in challenges]
    assert plain([", ".join(lines)] if one_line else lines) == challenges


@given(st.lists(st.text() | st.text(alphabet='Bb a=",\\\t\n\x00;/é', max_size=60), max_size=5))
def test_nothing_raises(headers: list[str]) -> None:
    for challenge in parse_challenges(headers):
        assert challenge.scheme == challenge.scheme.lower()
        assert challenge.scheme.isascii()
        assert all(key == key.lower() and value.isprintable() for key, value in challenge.parameters.items())
        assert isinstance(hash(challenge), int)


def test_limits() -> None:
    assert plain(["Basic realm=" + "a" * HEADER_LIMIT, "Bearer realm=a"]) == [("bearer", {"realm": "a"})]
    assert len(parse_challenges([f"s{n}" for n in range(HEADERS_LIMIT + 5)])) == HEADERS_LIMIT
    assert len(parse_challenges([", ".join(f"s{n}" for n in range(CHALLENGES_LIMIT + 5))])) == CHALLENGES_LIMIT
    many = parse_challenges(["Bearer " + ", ".join(f"p{n}=v" for n in range(PARAMETERS_LIMIT + 5))])
    assert len(many[0].parameters) == PARAMETERS_LIMIT


@pytest.mark.parametrize(
    "piece", ['a="', '"', "\\", '\\"', "a=", "a ", ",", " ", "a=\\", 'a="\\", ', "a,", "=", "a==", "é", "a\t=\t"]
)
def test_no_header_takes_long(piece: str) -> None:
    """Broken by a pattern that scans to the end of the header again from each of its characters."""
    header = "Bearer " + piece * ((HEADER_LIMIT - 10) // len(piece))
    started = time.process_time()
    parse_challenges([header] * HEADERS_LIMIT)
    assert time.process_time() - started < 2.0


def test_parameters_cannot_be_changed() -> None:
    challenge = parse_challenges([HUB])[0]
    assert challenge == Challenge("bearer", HUB_PARAMETERS)
    with pytest.raises(TypeError):
        challenge.parameters["realm"] = "https://evil"  # type: ignore[index]
