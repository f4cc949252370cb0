"""The API against its own description: whatever fits it, and much that does not, is answered without a 5xx."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from tests.support.fake_registry import FakeRegistry
from tests.support.mirror import MirrorProcess

pytestmark = pytest.mark.may_block  # a mirror in a process of its own, asked by a client that blocks

EXAMPLES = 25  # for each operation


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A mirror that holds an image, and where this machine may do everything."""
    folder: Path = tmp_path_factory.mktemp("schema")
    (folder / "mirror.toml").write_text('[access]\nloopback = "all"\n')
    with FakeRegistry().in_thread() as registry:
        registry.add_image("library/alpine", "3", layers=[1000])
        arguments = ("--config", str(folder / "mirror.toml"))
        with MirrorProcess(folder, {"docker.io": registry.url}, arguments=arguments) as mirror:
            yield mirror.url


def test_nothing_that_is_asked_breaks_it(url: str) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json")
    asked = 0

    def check(operation: Any) -> None:
        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy())
        def answered(case: Any) -> None:
            response = case.call(timeout=30)
            assert response.status_code < 500, (case.as_curl_command(), response.text)

        answered()

    for found in schema.get_all_operations():
        result: Any = found
        check(result.ok())
        asked += 1
    assert asked >= 24
