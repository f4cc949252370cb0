"""Every setting, its type, its default. `config/mirror.example.toml` says the same to people (a test compares).

A model checks each value by itself and the values of one section together; what depends on the machine or on other
sections is `config.load`'s. Server only: pydantic takes 140 ms to import, and no client verb may need it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator

from mirror.config.access import AccessSettings, OwnGlobs
from mirror.config.sizes import MaxSize, MinFree, Reserve
from mirror.config.values import (
    Allowed,
    File,
    Host,
    Hosts,
    Listen,
    ListenLogin,
    Networks,
    Patterns,
    Proxy,
    Seconds,
    Socket,
    Switch,
    Text,
    Timeout,
    Urls,
    check_host,
    is_loopback,
    parse_duration,
)

__all__ = ["AccessSettings", "RegistrySettings", "Settings", "parse_duration"]

KeyPath = tuple[str, ...]
ENVIRONMENT = "environment "
"""How the origin of what a variable decides begins; its name follows."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class RegistrySettings(_Section):
    """One upstream registry."""

    url: Urls  # https://host[:port][/prefix]; of several, the next takes over when one fails
    enabled: Switch = True
    tag_ttl: Seconds = 60.0
    immutable_tags: Patterns = ()  # regular expressions; searched in the tag
    username: Text | None = None
    password: Annotated[SecretStr | None, Allowed("a text in quotes")] = None
    password_file: File | None = None
    private: Annotated[
        Literal["deny", "share"] | tuple[str, ...],
        Allowed('"deny", "share", or a list of globs such as ["team/*"]'),
    ] = "deny"  # or globs of repository paths to share
    push: Annotated[
        Literal["deny", "local", "through", "queue"],
        Allowed('"deny", "local" (kept here), "through" (to the registry at once), or "queue" (sent when it can be)'),
    ] = "deny"
    proxy: Proxy | None = Field(default=None, repr=False)  # else HTTPS_PROXY, HTTP_PROXY, NO_PROXY
    ca_file: File | None = None
    insecure: Switch = False  # let credentials go over plain http to another machine
    realms: Hosts = ()  # further hosts whose token service may see the credentials
    addresses: Networks = ()  # private networks that redirects, realms and links may lead to
    connect_timeout: Timeout = 10.0
    idle_timeout: Timeout = 30.0  # silence in mid-answer after which the download is resumed

    @property
    def urls(self) -> tuple[str, ...]:
        return (self.url,) if isinstance(self.url, str) else self.url

    @model_validator(mode="after")
    def _credentials_fit(self) -> Self:
        """A user has one password, from one place, and it goes over no open line unless the operator says so."""
        secrets = [name for name in ("password", "password_file") if getattr(self, name) is not None]
        if len(secrets) == 2:
            raise ValueError("password and password_file are both set; leave one of them out")
        if self.username is None and secrets:
            raise ValueError(f"{secrets[0]} is set without username; write both, or neither")
        if self.username is not None and not secrets:
            raise ValueError(
                "username is set without a password; write password_file, or leave username out to use"
                " ~/.docker/config.json"
            )
        open_lines = [url for url in self.urls if url.startswith("http://") and not is_loopback(url)]
        if secrets and open_lines and not self.insecure:
            raise ValueError(
                f"the password would go to {open_lines[0]} unencrypted; write an https URL, or insecure = true"
            )
        return self


class Settings(_Section):
    """The whole file."""

    data: File
    listen: Listen = ("127.0.0.1:5000",)
    listen_login: ListenLogin = ()  # where `docker login` works: these addresses challenge at the ping
    tls_cert: File | None = None  # PEM, the whole chain; with it every TCP address speaks https only
    tls_key: File | None = None
    default_registry: Host = "docker.io"
    offline: Switch = False
    on_upstream_failure: Annotated[Literal["fallback", "error"], Allowed('"fallback" or "error"')] = "fallback"
    on_upstream_gone: Annotated[Literal["keep", "follow"], Allowed('"keep" or "follow"')] = "keep"
    private_stale: Seconds = 7 * 86400.0
    max_size: MaxSize | None = None  # bytes that blobs and staging may take; None: as much as the disk gives
    min_free: MinFree = Reserve(0.05)
    own: OwnGlobs = ()  # own names whose first push asks no registry
    socket: Socket | None = None  # else chosen below /run/mirror or $XDG_RUNTIME_DIR
    socket_group: Text | None = None
    log_format: Annotated[Literal["text", "json"], Allowed('"text" or "json"')] = "text"
    access_log: File | None = None  # a line per request; "-" is standard error
    access: AccessSettings = AccessSettings()
    registries: dict[str, RegistrySettings] = Field(default_factory=dict)

    _origins: Mapping[KeyPath, str] = PrivateAttr(default_factory=dict)
    _file: Path | None = PrivateAttr(default=None)
    _remarks: tuple[str, ...] = PrivateAttr(default=())

    @field_validator("registries", mode="before")
    @classmethod
    def _canonical_names(cls, registries: Any) -> Any:
        """Registries stand under their canonical names, each once. Raises ValueError."""
        if not isinstance(registries, Mapping):
            return registries
        canonical: dict[str, Any] = {}
        for name, entry in registries.items():
            registry = check_host(name)
            if registry in canonical:
                raise ValueError(f'"{name}" is the registry "{registry}", which stands there already')
            canonical[registry] = entry
        return canonical

    @property
    def file(self) -> Path | None:
        """The file these settings were read from, if there was one."""
        return self._file

    @property
    def origins(self) -> Mapping[KeyPath, str]:
        """Where each key that is no default was set, in words: `("registries", "docker.io", "url")` → `file …`."""
        return self._origins

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables of the environment that decided something, by name."""
        found = (
            origin.removeprefix(ENVIRONMENT) for origin in self._origins.values() if origin.startswith(ENVIRONMENT)
        )
        return tuple(sorted(set(found)))

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was met beside and is no mistake for sure: a sentence each."""
        return self._remarks

    def with_origins(self, origins: Mapping[KeyPath, str], file: Path | None, remarks: Iterable[str] = ()) -> Self:
        """The same settings, knowing where they come from, and what was to be remarked."""
        told = self.model_copy()
        told._origins = dict(origins)  # noqa: SLF001 - our own, on a copy
        told._file = file  # noqa: SLF001 - the same
        told._remarks = tuple(remarks)  # noqa: SLF001 - the same
        return told
