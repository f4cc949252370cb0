"""Work that is left before its end, by Ctrl-C or because the mirror is gone: what of it was done is told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mirror.cli.output import note
from mirror.cli.transport import BrokeOff


@contextmanager
def telling(done: Callable[[], str]) -> Iterator[None]:
    """`done` gives sentences on what was done until then, escaped already: the first one beside the reason, each
    further line as it is."""
    try:
        yield
    except KeyboardInterrupt:
        for line in f"interrupted. {done()}".splitlines():
            note(f"mirror: {line}")
        raise
    except BrokeOff as error:
        raise BrokeOff(f"{error.message}. {done()}") from error
