"""The whole catalog: what `protocols`, `inventory`, `pushing` and `forwarding` ask of it, part by part."""

from typing import Protocol

from mirror.store.forwarding import Forwarding, Outbox
from mirror.store.inventory import Collection, Configs, Images, Lifecycle
from mirror.store.protocols import Deletion, Links, Manifests, Misses, Partials, Repositories, Tags, Totals
from mirror.store.pushing import Pushes, Uploads


class Catalog(
    Repositories,
    Links,
    Deletion,
    Manifests,
    Tags,
    Partials,
    Misses,
    Images,
    Lifecycle,
    Collection,
    Configs,
    Uploads,
    Pushes,
    Forwarding,
    Outbox,
    Protocol,
):
    """What the mirror knows. One object implements all parts; whoever needs one part names that part."""

    async def instance(self) -> str:
        """This data directory's own id, made at its first start; it goes on every request upstream."""
        ...

    async def totals(self) -> Totals: ...
    async def close(self) -> None: ...
