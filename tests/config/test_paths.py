from pathlib import Path

import pytest

from mirror.config.paths import SYSTEM_DATA, socket_path

OWN = Path("/home/me/data")


def test_the_configured_path_wins() -> None:
    assert socket_path(Path("/s"), OWN, {"RUNTIME_DIRECTORY": "/run/mirror"}) == Path("/s")


@pytest.mark.parametrize(
    ("environment", "uid", "folder"),
    [
        ({"RUNTIME_DIRECTORY": "/run/mirror:/run/other"}, 990, "/run/mirror"),
        ({}, 0, "/run/mirror"),
        ({"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "/run/mirror"),
        ({"XDG_RUNTIME_DIR": "/run/user/1000"}, 1000, "/run/user/1000/mirror"),
        ({}, 1000, "/tmp/mirror-1000"),
    ],
)
def test_the_folder_is_the_systems_or_the_users(environment: dict[str, str], uid: int, folder: str) -> None:
    assert socket_path(None, SYSTEM_DATA, environment, uid) == Path(folder) / "mirror.sock"
    own = socket_path(None, OWN, environment, uid)
    assert own.parent == Path(folder)
    assert own.name != "mirror.sock"


def test_each_data_directory_has_a_socket_of_its_own_and_a_short_one() -> None:
    deep = Path("/" + "d" * 200)
    paths = {socket_path(None, data, {}, 0) for data in (SYSTEM_DATA, OWN, deep)}
    assert len(paths) == 3
    assert all(len(bytes(path)) < 108 for path in paths)
