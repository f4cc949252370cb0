import click
import pytest

from mirror.cli.interrupted import telling
from mirror.cli.transport import BrokeOff
from mirror.errors import MirrorError


def test_what_was_done_is_told_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), telling(lambda: "Two of three.\nThe rest is kept"):
        raise KeyboardInterrupt
    assert capsys.readouterr() == ("", "mirror: interrupted. Two of three.\nmirror: The rest is kept\n")


def test_a_mirror_that_is_gone_is_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BrokeOff) as caught, telling(lambda: "Two of three"):
        raise BrokeOff("the mirror broke off: reset")
    assert caught.value.message == "the mirror broke off: reset. Two of three"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("error", [MirrorError("refused"), click.UsageError("x")])
def test_other_ends_are_told_by_others(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(type(error), match=r"refused|x"), telling(lambda: pytest.fail("nobody asked")):
        raise error
    assert capsys.readouterr() == ("", "")
