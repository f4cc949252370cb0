"""A mirror for the sake of one command, and of those that join it."""

import http.client
import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from mirror.application import ephemeral
from mirror.config.model import Settings
from mirror.errors import DataBusy, ManifestUnknown
from tests.support.mirror import settings_for
from tests.support.processes import wait_until

NOBODY = "http://127.0.0.1:9"

pytestmark = pytest.mark.may_block  # the mirror has a loop of its own, in its thread; these are the command's side


def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path / "d", {"docker.io": NOBODY})


class Ended(threading.Thread):
    """A command in a thread; `error` is what it ended with."""

    def __init__(self, command: Callable[[], None]) -> None:
        super().__init__()
        self._command = command
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._command()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error


class Command(http.client.HTTPConnection):
    """A client of the socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)

    def ask(self, path: str) -> int:
        self.request("GET", path)
        response = self.getresponse()
        response.read()
        return response.status

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def mirror_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "mirror"]


def test_it_serves_its_socket_and_is_gone_afterwards(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mask = os.umask(0o022)
    try:
        with ephemeral(settings(tmp_path)) as path:
            with Command(path) as command:
                assert command.ask("/api/v1/status") == 200
            assert path.stat().st_mode & 0o777 == 0o600
        assert not path.exists()
        assert not mirror_threads()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(mask)
    assert capfd.readouterr() == ("", "")  # the terminal is the command's


def test_the_data_has_one_owner(tmp_path: Path) -> None:
    with ephemeral(settings(tmp_path)), pytest.raises(DataBusy), ephemeral(settings(tmp_path)):
        pass
    with ephemeral(settings(tmp_path)) as path:
        assert path.exists()


def test_it_waits_for_commands_that_joined(tmp_path: Path) -> None:
    """Breaks if it ends with its own command: whoever joined would be cut off in the middle."""
    joined = threading.Event()
    opened: list[Command] = []

    def own_command() -> None:
        with ephemeral(settings(tmp_path)) as path:
            opened.append(Command(path).__enter__())
            joined.set()

    owner = threading.Thread(target=own_command)
    owner.start()
    assert joined.wait(20)
    (other,) = opened
    owner.join(0.3)
    assert owner.is_alive()
    assert other.ask("/api/v1/status") == 200
    other.close()
    wait_until(lambda: not owner.is_alive(), 20, "its end")


@pytest.mark.parametrize("ending", [KeyboardInterrupt, ManifestUnknown("no such image")])
def test_however_its_own_command_ends_the_others_are_served_until_they_are_done(
    tmp_path: Path, ending: type[BaseException] | BaseException
) -> None:
    """Breaks if Ctrl-C in the command that is the mirror, or its failure, cuts off those that joined it."""
    remarks: list[int] = []

    def remark() -> None:
        remarks.append(other.ask("/api/v1/status"))
        other.close()

    with ExitStack() as stack:

        def own_command() -> None:
            with ephemeral(settings(tmp_path), remark=remark) as path:
                opened.append(stack.enter_context(Command(path)))
                with Command(path) as own:
                    own.request("GET", "/api/v1/status")
                    raise ending

        opened: list[Command] = []
        owner = Ended(own_command)
        wait_until(lambda: bool(opened), 20, "its start")
        (other,) = opened
        owner.join()
    assert remarks == [200]
    assert isinstance(owner.error, KeyboardInterrupt | ManifestUnknown)
    assert not mirror_threads()


def test_a_second_ctrl_c_waits_for_nobody(tmp_path: Path) -> None:
    with ExitStack() as other:

        def again() -> None:
            raise KeyboardInterrupt

        def interrupted() -> None:
            with ephemeral(settings(tmp_path), remark=again) as path:
                other.enter_context(Command(path))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert not mirror_threads()


def test_without_others_an_end_is_no_wait_and_no_remark(tmp_path: Path) -> None:
    def interrupted() -> None:
        with ephemeral(settings(tmp_path), remark=lambda: pytest.fail("nobody else is there")) as path, Command(path):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not mirror_threads()
