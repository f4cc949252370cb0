import pytest

from mirror.cli import names
from mirror.errors import NameInvalid


@pytest.mark.parametrize(
    ("text", "tagged"),
    [
        ("alpine", False),
        ("alpine:3", True),
        ("localhost:5000/x", False),
        ("localhost:5000/x:1", True),
        ("x@sha256:a", True),
    ],
)
def test_whether_a_tag_is_written(text: str, tagged: bool) -> None:
    assert names.tagged(text) == tagged


@pytest.mark.parametrize(
    ("references", "said"),
    [
        (["alpine"], "Using default tag: latest\n"),
        (["alpine:3", "busybox", "nginx"], "Using default tag: latest\n"),
        (["alpine:3"], ""),
        (["UPPER"], ""),
        ([], ""),
    ],
)
def test_dockers_sentence_is_said_once(references: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    names.remark_default_tags(references)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", said)


def test_what_is_no_name_is_named() -> None:
    names.check_name("team/app:1")
    with pytest.raises(NameInvalid, match=r"^UP\\x1bPER: invalid repository name"):
        names.check_name("UP\x1bPER")


@pytest.mark.parametrize(
    ("term", "split"),
    [
        ("nginx", (None, "nginx")),
        ("grafana/loki", (None, "grafana/loki")),
        ("ghcr.io/x/y", ("ghcr.io", "x/y")),
        ("localhost:5000/", ("localhost:5000", "")),
        ("ghcr.io", (None, "ghcr.io")),
    ],
)
def test_a_registry_before_a_term(term: str, split: tuple[str | None, str]) -> None:
    assert names.registry_of(term) == split
