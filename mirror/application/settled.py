"""What follows from the settings alone: policy, rights, users, certificate, logs."""

import asyncio
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import mirror
from mirror.cache.policy import Policy, PushMode, RegistryPolicy
from mirror.cache.rights import Action, Rights, Rule, sharing
from mirror.cache.users import Users
from mirror.clock import Clock
from mirror.config.model import RegistrySettings, Settings
from mirror.errors import ConfigInvalid
from mirror.operations.status import Place
from mirror.server.access_log import AccessLog
from mirror.server.tls import Certificate


def policy_of(settings: Settings) -> Policy:
    return Policy(
        offline=settings.offline,
        keep_gone=settings.on_upstream_gone == "keep",
        private_stale=settings.private_stale,
        registries={
            name: RegistryPolicy(
                registry.tag_ttl,
                tuple(re.compile(each) for each in registry.immutable_tags),
                PushMode(registry.push),
            )
            for name, registry in settings.registries.items()
        },
    )


def rights_of(settings: Settings) -> Rights:
    access = settings.access
    return Rights(
        shared=sharing({name: entry.private for name, entry in settings.registries.items() if entry.enabled}),
        anonymous=access.anonymous,
        loopback=access.loopback,
        users=access.htpasswd is not None,
        private=access.private,
        rules=[
            Rule(frozenset(rule.users), rule.repositories, frozenset(map(Action, rule.allow))) for rule in access.rules
        ],
    )


async def users_of(settings: Settings, stack: AsyncExitStack, clock: Clock) -> Users | None:
    if settings.access.htpasswd is None:
        return None
    users = Users(settings.access.htpasswd, clock=clock)
    stack.push_async_callback(users.close)
    await users.start()
    return users


def certificate_of(settings: Settings) -> Certificate | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key)


def place_of(settings: Settings, instance: str) -> Place:
    return Place(
        version=mirror.__version__,
        instance=instance,
        listen=settings.listen,
        data=settings.data,
        urls={name: registry.urls for name, registry in settings.registries.items() if registry.enabled},
        disabled=tuple(name for name, registry in settings.registries.items() if not registry.enabled),
        min_free=settings.min_free,
    )


def access_log_of(settings: Settings, stack: AsyncExitStack) -> AccessLog | None:
    if settings.access_log is None:
        return None
    _check_writable(settings.access_log)
    executor = ThreadPoolExecutor(1, thread_name_prefix="access-log")
    stack.push_async_callback(asyncio.to_thread, executor.shutdown)
    access_log = AccessLog(settings.access_log, as_json=settings.log_format == "json", executor=executor)
    stack.push_async_callback(access_log.close)
    return access_log


def _check_writable(path: Path) -> None:
    """At the start, not at the first request."""
    try:
        if str(path) != "-":
            path.open("a").close()
    except OSError as error:
        raise ConfigInvalid(f"access_log: {path} cannot be written: {error.strerror}") from error


def enabled(settings: Settings) -> Mapping[str, RegistrySettings]:
    """The registries that may be asked."""
    return {name: registry for name, registry in settings.registries.items() if registry.enabled}
