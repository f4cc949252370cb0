"""What every test gets: a guard against blocking the event loop, and hypothesis within bounds."""

import os
from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

from tests.support.installed import Installed, make

# Deadlines measure the machine, not the code; a slow first example is no fault either.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("local", _COMMON)
settings.register_profile("ci", _COMMON, derandomize=True, max_examples=50, database=None, print_blob=True)
settings.register_profile("thorough", _COMMON, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "local"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "may_block: this test's calls into `mirror` may block the event loop (say why)")


@pytest.fixture(autouse=True)
def blocked_loop(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """A blocking call made by `mirror` on a running event loop raises `BlockingError`.

    Calls of the tests themselves are their own business, as long as no frame of `mirror` is on the stack.
    """
    if request.node.get_closest_marker("may_block"):
        yield None
        return
    with blockbuster_ctx("mirror") as guard:
        # Coverage guards its own data with a lock, on whatever line of ours it is counting.
        guard.functions["threading.Lock.acquire"].can_block_in("coverage/collector.py", {"lock_data", "unlock_data"})
        for call in ("Connection.execute", "Cursor.fetchone"):  # a few steps down an index: see `mirror/store/reads.py`
            guard.functions[f"sqlite3.{call}"].can_block_in("mirror/store/reads.py", "lookup")
        yield guard


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """What `make install` makes, once for all tests that run the installed command. Root's umask may be anything."""
    place = Installed(tmp_path_factory.mktemp("installed"))
    umask = os.umask(0o077)
    try:
        done = make("install", place.folder)
    finally:
        os.umask(umask)
    assert done.returncode == 0, done.stderr
    return place
