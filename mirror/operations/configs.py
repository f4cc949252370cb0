"""Images' configs (OCI image-spec, config.md): what lists show of them, read once and remembered by the catalog.

Nothing here fails: a config that is missing, damaged or none is one of which nothing is known. It is read for a
repository that holds it, or if it is public: a manifest may name anybody's. Whether he who asks may see that much is
for whoever asks here (`composition.Child.config_held`).
"""

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mirror.cache.memory import Recent
from mirror.errors import BlobUnknown, MirrorError
from mirror.oci.digest import Digest
from mirror.oci.manifest import DOCKER_CONFIG, OCI_CONFIG
from mirror.oci.names import Repository
from mirror.store.inventory import ConfigFacts, Edge
from mirror.store.protocols import Holding

log = logging.getLogger(__name__)

IMAGE_CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})
_AT_ONCE = 8  # configs that are read at the same time
_LARGEST = 4 << 20  # bytes; docker takes no larger one either
_ON_THE_LOOP = 64 << 10  # bytes that are parsed without a thread
_DEPTH = 64  # of a document
_TEXT_LIMIT = 64  # characters of a time, or of each part of a platform
_LABELS = 20_000  # labels that are kept in memory


class Catalog(Protocol):
    """What of the catalog is needed here."""

    async def holding(self, repository: Repository, digest: Digest, *, is_manifest: bool) -> Holding | None: ...
    async def quarantine(self, digest: Digest) -> None: ...
    async def configs(self, manifests: Sequence[Digest]) -> Mapping[Digest, ConfigFacts]: ...
    async def note_config(self, manifest: Digest, facts: ConfigFacts) -> None: ...


class Blobs(Protocol):
    """What of the store is needed here."""

    async def read(self, digest: Digest, location: str, size: int) -> bytes: ...


class Configs:
    """Reads configs."""

    def __init__(self, *, catalog: Catalog, store: Blobs) -> None:
        self._catalog = catalog
        self._store = store
        self._reading = asyncio.Semaphore(_AT_ONCE)
        self._labels: Recent[tuple[Repository, Digest], Mapping[str, str]] = Recent(
            _LABELS, lambda labels: 1 + len(labels)
        )

    async def facts(self, wanted: Mapping[Digest, tuple[Repository, Edge]]) -> Mapping[Digest, ConfigFacts]:
        """What the configs of these manifests say; of each its config's edge as he sees it (`held`: he may), and a
        repository that holds it. Those that nothing is known of are left out. What is read for the first time is noted
        in the catalog."""
        held = {manifest: (repository, edge) for manifest, (repository, edge) in wanted.items() if edge.held}
        known = dict(await self._catalog.configs(list(held)))
        unread = [
            (manifest, repository, edge)
            for manifest, (repository, edge) in held.items()
            if manifest not in known and edge.media_type in IMAGE_CONFIGS
        ]
        found = await asyncio.gather(*(self._note(*each) for each in unread))
        known.update({manifest: each for (manifest, *_), each in zip(unread, found, strict=True) if each is not None})
        return known

    async def document(self, repository: Repository, config: Digest) -> dict[str, Any] | None:
        """The whole config, parsed; None where it is not held there, cannot be read, or is no JSON object."""
        raw = await self._read(repository, config)
        return None if raw is None else await _object(raw)

    async def labels(self, repository: Repository, config: Digest) -> Mapping[str, str]:
        """The labels that a config gives its image. Empty where it is not held there, or cannot be read."""
        known = self._labels.get((repository, config))
        if known is None:
            raw = await self._read(repository, config)
            if raw is None:
                return {}  # for now
            known = _labels(await _object(raw) or {})
            self._labels.put((repository, config), known)
        return known

    async def _note(self, manifest: Digest, repository: Repository, edge: Edge) -> ConfigFacts | None:
        raw = await self._read(repository, edge.child)
        if raw is None:
            return None
        value = await parsed(raw)
        document = value if isinstance(value, dict) else {}
        facts = ConfigFacts(edge.child, _text(document.get("created")) or None, _platform(document))
        try:
            await self._catalog.note_config(manifest, facts)
        except MirrorError as error:
            log.info("what config %s says is not written down: %s", edge.child, error.message)
        return facts

    async def _read(self, repository: Repository, config: Digest) -> bytes | None:
        try:
            async with self._reading:
                holding = await self._catalog.holding(repository, config, is_manifest=False)
                if holding is None or holding.size > _LARGEST or (holding.link is None and not holding.public):
                    return None
                return await self._store.read(config, holding.location, holding.size)
        except BlobUnknown:
            await self._catalog.quarantine(config)
        except MirrorError as error:
            log.warning("config %s is held and cannot be read: %s", config, error.message)
        return None


async def parsed(raw: bytes) -> object:
    """JSON as it can be written again: what is nested too deep is null, half of a surrogate pair a question mark.
    None where it is none. Large documents are read in a thread."""
    return _parsed(raw) if len(raw) <= _ON_THE_LOOP else await asyncio.to_thread(_parsed, raw)


async def _object(raw: bytes) -> dict[str, Any] | None:
    value = await parsed(raw)
    return value if isinstance(value, dict) else None


def _parsed(raw: bytes) -> object:
    try:
        return _clean(json.loads(raw), _DEPTH)
    except (ValueError, RecursionError):
        return None


def _clean(value: object, depth: int) -> object:
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="replace").decode()
    if isinstance(value, dict):
        return {_clean(key, 1): _clean(each, depth - 1) for key, each in value.items()} if depth else None
    if isinstance(value, list):
        return [_clean(each, depth - 1) for each in value] if depth else None
    return value


def _platform(document: Mapping[str, Any]) -> str:
    """`os/architecture[/variant]`, empty where one of the first two is missing."""
    os, architecture, variant = (_text(document.get(key)) for key in ("os", "architecture", "variant"))
    return "/".join(part for part in (os, architecture, variant) if part) if os and architecture else ""


def _text(value: object) -> str:
    """A short printable text, empty for anything else."""
    fits = isinstance(value, str) and len(value) <= _TEXT_LIMIT and value.isascii() and value.isprintable()
    return value if isinstance(value, str) and fits else ""


def _labels(document: Mapping[str, Any]) -> Mapping[str, str]:
    config = document.get("config")
    labels = config.get("Labels") if isinstance(config, dict) else None
    if not isinstance(labels, dict):
        return {}
    return {str(key): value for key, value in labels.items() if isinstance(value, str)}
