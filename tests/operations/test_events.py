"""The events that every long operation shares."""

from mirror.errors import Offline, UpstreamLimited
from mirror.operations.events import End, failed


def test_a_failure_carries_the_command_lines_exit_code() -> None:
    event = failed("alpine", UpstreamLimited("too many", registry="docker.io", retry_after=3))
    assert (event.event, event.name, event.message, event.exit_code) == ("error", "alpine", "too many", 6)
    assert failed("x", Offline("offline")).exit_code == 9
    assert End(1, 2).event == "end"
