"""Pushes under a registry's name, on to that registry: at once while the client waits ("through"), or later ("queue").

That he may push there was decided here; the registry decides about the mirror's own login, which is what it sees.
"""

import logging
from collections.abc import Sequence
from typing import Protocol

from mirror.cache.outbox import Outbox
from mirror.cache.policy import Policy
from mirror.cache.transfer import Transfers
from mirror.errors import MirrorError, Offline, UpstreamGone
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.oci.names import Reference, Repository
from mirror.store.inventory import View
from mirror.upstream.protocols import Destination

log = logging.getLogger(__name__)


class Destinations(Protocol):
    """Part of `Upstreams`."""

    def destination(self, registry: str) -> Destination: ...


class Forward:
    """Sends on what was put here."""

    def __init__(self, *, transfers: Transfers, outbox: Outbox, upstreams: Destinations, policy: Policy) -> None:
        self._transfers = transfers
        self._outbox = outbox
        self._upstreams = upstreams
        self._policy = policy

    async def through(
        self, repository: Repository, manifest: Manifest, references: Sequence[str | Digest], *, trusted: bool
    ) -> None:
        """Let the registry have it all, under each of these names; `trusted`: whether he may push what needs the
        mirror's credentials to be seen. Raises as `Transfers.send`."""
        parcel = await self._transfers.pack(manifest, View(repository, trusted=trusted))
        tags = [each for each in references if isinstance(each, str)]
        target = (
            Reference(repository, tags[0], None) if tags else Reference(repository, None, manifest.descriptor.digest)
        )
        try:
            sent = await self._transfers.send(parcel, target, tags=tags[1:])
        except MirrorError as error:  # many a client shows the status alone
            log.warning("%s was not sent on: %s", target, error.message)
            raise
        log.info("%s: %s", target, sent, extra={"fields": {"image": str(target), "sent_bytes": sent.bytes}})

    async def delete(self, repository: Repository, reference: str | Digest) -> None:
        """Let the registry delete it; what it does not have is deleted. Raises `UpstreamRefused`, an
        `UpstreamNoAnswer`, `Offline`."""
        registry = repository.registry
        if self._policy.offline:
            raise Offline(f"this mirror is offline: nothing can be deleted at {registry}")
        meant = (
            Reference(repository, reference, None)
            if isinstance(reference, str)
            else Reference(repository, None, reference)
        )
        try:
            await self._upstreams.destination(registry).delete(meant)
        except UpstreamGone:
            log.info("%s was deleted here, and %s has none", meant, registry)

    def changed(self) -> None:
        """Something waits to be sent, from now on, or no more."""
        self._outbox.wake()
