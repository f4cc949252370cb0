"""The htpasswd file: what counts in it, what does not, and that nothing else in it is lost."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.cache.htpasswd import parse, read, signature, with_user, without_user, write
from mirror.config.usernames import check_username

HASH = "$2y$04$" + "a" * 53
OTHER = b"$2b$10$" + b"b" * 53


def is_name(text: str) -> bool:
    try:
        return bool(check_username(text))
    except ValueError:
        return False


names = st.text(min_size=1, max_size=12).filter(is_name)
lines = st.one_of(
    st.text(alphabet="ab:#$ \t", max_size=20), st.builds("{}:{}".format, names, st.sampled_from([HASH, "secret", ""]))
)


@pytest.mark.parametrize("version", ["2y", "2a", "2b"])
def test_bcrypt_counts(version: str) -> None:
    text = f"# users\n\n  ci:${version}$10${'a' * 53}  \n#old:{HASH}\n"
    assert parse(text).hashes == {"ci": f"${version}$10${'a' * 53}".encode()}
    assert parse(text).refused == ()


@pytest.mark.parametrize(("line", "says"), [
    ("bob:hunter2", "line 2 (bob): only bcrypt is accepted"),
    ("bob:$apr1$x$hunter2", "line 2 (bob): only bcrypt"),
    ("bob:{SHA}hunter2=", "line 2 (bob): only bcrypt"),
    ("bob:$2x$10$" + "a" * 53, "line 2 (bob): only bcrypt"),
    ("bob:$2y$10$hunter2", "line 2 (bob): only bcrypt"),
    (f"bob:{HASH}x", "line 2 (bob): only bcrypt"),
    ("bob:$2y$17$" + "a" * 53, "line 2 (bob): a cost of 17 is not between 4 and 16"),
    ("bob:$2y$03$" + "a" * 53, "a cost of 03"),
    ("hunter2", "line 2 (no colon): is no name:hash"),
    (f":{HASH}", "line 2 (): is no name:hash"),
    ("ci:" + OTHER.decode(), "line 2 (ci): stands there twice; the first line counts"),
    ("b\x1bob:x", "line 2 (b?ob): only bcrypt"),
])  # fmt: skip
def test_other_lines_are_named_without_their_secret(line: str, says: str) -> None:
    found = parse(f"ci:{HASH}\n{line}\nlast:{HASH}")
    assert dict(found.hashes) == {"ci": HASH.encode(), "last": HASH.encode()}
    (said,) = found.refused
    assert says in said
    assert "hunter2" not in said


def test_a_user_keeps_his_line_and_all_else_stays() -> None:
    text = f"# first\nci:{HASH}\nbob:plain\nci:{HASH}\n# last"
    changed = with_user(text, "ci", OTHER)
    assert changed == f"# first\nci:{OTHER.decode()}\nbob:plain\n# last"
    assert with_user(text, "new", OTHER) == f"{text}\nnew:{OTHER.decode()}\n"
    assert without_user(text, "ci") == "# first\nbob:plain\n# last"
    assert without_user(text, "# first") is None
    assert without_user(text, "nobody") is None


@given(st.lists(lines, max_size=6).map("\n".join), names)
def test_any_file_can_be_changed_and_changed_back(text: str, name: str) -> None:
    """Breaks if one user's change moves, drops or changes a line of another."""
    changed = with_user(text, name, OTHER)
    before, after = dict(parse(text).hashes), dict(parse(changed).hashes)
    assert after == {**before, name: OTHER}
    removed = without_user(changed, name)
    assert removed is not None
    assert dict(parse(removed).hashes) == {each: found for each, found in before.items() if each != name}


# --- the file ---------------------------------------------------------------------------------------------


def test_it_is_written_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    assert (read(file), signature(file)) == ("", None)
    write(file, "one\n")
    file.chmod(0o644)
    before = signature(file)
    write(file, "tw\udcffo\n")
    assert file.read_bytes() == b"tw\xffo\n"
    assert read(file) == "tw\udcffo\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert signature(file) != before
    assert os.listdir(tmp_path) == ["htpasswd"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "htpasswd"
    link.symlink_to(tmp_path / "real" / "users")
    write(link, "x\n")
    assert link.is_symlink()
    assert (tmp_path / "real" / "users").read_text() == "x\n"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_what_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Breaks if the file is written in place: a full disk would take every user away."""
    file = tmp_path / "htpasswd"
    write(file, "old\n")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(f"mirror.cache.htpasswd.os.{step}", full)
    with pytest.raises(OSError, match="No space"):
        write(file, "new\n")
    monkeypatch.undo()
    assert file.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["htpasswd"]
