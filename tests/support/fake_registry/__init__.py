"""A scripted upstream on real sockets, for every fault test of the project.

    async with FakeRegistry() as registry:                      # or: with FakeRegistry().in_thread() as registry
        image = registry.add_image("library/alpine", "3", layers=[1000, 5_000_000])
        registry.script("GET */blobs/*", close_after(70_000))    # once
        registry.script("GET /v2/", status(503), times=None)     # for ever
        ... registry.url ...
        assert registry.count("GET */blobs/*") == 2
        assert registry.sent("*/blobs/*") < 6_100_000

The map: `wire` (HTTP with faults), `content` (what it holds), `tokens` (who may read), `registry` (`FakeRegistry`,
`FakeCdn`), `behaviours` (what a script may do), `proxy` (`FakeProxy`), `tls` (`Authority`).
"""

from tests.support.fake_registry.cdn import FakeCdn
from tests.support.fake_registry.intake import Gate, Intake
from tests.support.fake_registry.proxy import FakeProxy
from tests.support.fake_registry.registry import FakeRegistry
from tests.support.fake_registry.scripted import ScriptedServer
from tests.support.fake_registry.tls import Authority
from tests.support.fake_registry.tokens import Access
from tests.support.fake_registry.wire import Answer, Behaviour, Request

__all__ = [
    "Access",
    "Answer",
    "Authority",
    "Behaviour",
    "FakeCdn",
    "FakeProxy",
    "FakeRegistry",
    "Gate",
    "Intake",
    "Request",
    "ScriptedServer",
]
