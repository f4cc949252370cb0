"""Every verb has its routes, and every row of the table of rights is a route."""

from pathlib import Path

from mirror.cache.rights import ACTIONS
from tests.server.api.documents import api_document
from tests.support.mirror import mirror_in_process

NOBODY = "http://127.0.0.1:9"


async def test_every_row_of_the_table_is_a_route_and_the_other_way_round(tmp_path: Path) -> None:
    async with mirror_in_process(tmp_path / "d", {"docker.io": NOBODY}) as mirror:
        document = await api_document(mirror)
    routes = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert routes == {row for row in ACTIONS if isinstance(row[0], str)}
