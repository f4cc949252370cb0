"""The API's description: whole, and true."""

from pathlib import Path
from typing import Any

from tests.server.api.documents import api_document
from tests.support.mirror import mirror_in_process

NOBODY = "http://127.0.0.1:9"


def references(value: Any) -> set[str]:
    """Every `$ref` in a document."""
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(each) for each in value.values()))
    return set().union(*(references(each) for each in value)) if isinstance(value, list) else set()


async def test_it_describes_every_route(tmp_path: Path) -> None:
    async with mirror_in_process(tmp_path / "d", {"docker.io": NOBODY}) as mirror:
        document = await api_document(mirror)
    assert document["openapi"].startswith("3.1")
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= known
    pull = document["paths"]["/pull"]["post"]
    assert "application/x-ndjson" in pull["responses"]["200"]["content"]
    assert pull["requestBody"]["required"]
    names = {each["name"] for each in document["paths"]["/images"]["get"]["parameters"]}
    assert {"limit", "cursor", "reference"} <= names
    assert document["paths"]["/status"]["get"]["x-action"] == "read"
    operations = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(operations) == len(set(operations))
