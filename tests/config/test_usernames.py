import pytest

from mirror.config.usernames import check_username


@pytest.mark.parametrize("name", ["ci", "Ärger", "a b", "x" * 255, "me@example.com", "a#b"])
def test_what_a_user_can_be_called(name: str) -> None:
    assert check_username(name) == name


@pytest.mark.parametrize("name", ["", "a:b", " a", "a ", "a\nb", "x" * 256, "*", "#a", "\ud800", "a\x7f"])
def test_what_no_user_is_called(name: str) -> None:
    """Breaks if a name can end its line in the file, stand for everybody, or be taken for a comment."""
    with pytest.raises(ValueError, match="is no user name"):
        check_username(name)
