import click
import pytest

from mirror.cli import options


def test_an_option_may_be_repeated_and_may_hold_commas() -> None:
    assert options.split(("linux/amd64, linux/arm64", "all", "")) == ["linux/amd64", "linux/arm64", "all"]


def test_filters_are_pairs() -> None:
    assert options.pairs(("a=1", "b=x=y"), ("a", "b")) == [("a", "1"), ("b", "x=y")]


@pytest.mark.parametrize(
    ("value", "says"),
    [("a", "not of the form"), ("a=", "not of the form"), ("c=1", "there is no filter 'c'; there are a, b")],
)
def test_what_is_no_filter_is_refused(value: str, says: str) -> None:
    with pytest.raises(click.BadParameter, match=says):
        options.pairs((value,), ("a", "b"))


def test_quiet_says_what_it_prints() -> None:
    @click.command()
    @options.quiet("IDs")
    def verb(*, quiet: bool) -> None:
        assert quiet

    assert verb.params[0].opts == ["-q", "--quiet"]
    assert verb.get_help(click.Context(verb)).count("Print IDs only.") == 1
