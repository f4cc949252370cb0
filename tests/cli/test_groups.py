import click
import pytest

from mirror.cli import IMAGE_VERBS, SECTIONS, VERBS, main
from mirror.cli.groups import Aliased, Lazy
from tests.cli.conftest import Run


@pytest.mark.parametrize("verb", VERBS)
def test_what_the_list_says_of_a_verb_is_the_first_sentence_of_its_help(verb: str) -> None:
    command = main.get_command(click.Context(main), verb)
    assert command is not None
    assert command.get_short_help_str(200).removesuffix("...") in (VERBS[verb].says, VERBS[verb].says.rstrip("."))
    assert len(VERBS[verb].says) <= 66  # fits a screen of 80 columns


def test_every_verb_stands_in_one_section() -> None:
    assert sum(len(places) for places in SECTIONS.values()) == len(VERBS)


@pytest.mark.parametrize(("name", "verb"), [*((name, name) for name in IMAGE_VERBS), ("list", "ls"), ("remove", "rm")])
def test_image_calls_them_as_docker_does(name: str, verb: str) -> None:
    image = main.get_command(click.Context(main), "image")
    assert isinstance(image, Lazy)
    command = image.get_command(click.Context(image), name)
    assert command is not None
    place = IMAGE_VERBS[verb]
    assert command is main.get_command(click.Context(main), next(v for v, at in VERBS.items() if at == place))


def test_a_name_that_is_none_is_no_verb() -> None:
    assert main.get_command(click.Context(main), "nothing") is None
    user = main.get_command(click.Context(main), "user")
    assert isinstance(user, Aliased)
    assert user.get_command(click.Context(user), "rm") is user.get_command(click.Context(user), "remove")
    assert user.get_command(click.Context(user), "nothing") is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["imgs"], "No such command 'imgs'. Did you mean 'images' or 'image'?"),
        (["image", "lss"], "No such command 'lss'. Did you mean 'ls'?"),
        (["xyzzy"], "No such command 'xyzzy'."),
    ],
)
def test_a_verb_written_wrong_is_guessed(run: Run, words: list[str], says: str) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == f"Error: {says}"
