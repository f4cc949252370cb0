"""The URLs of one registry: which is asked first, and which rest.

The last one that answered comes first; one that failed rests for a while and is then asked last, never not at
all: a resting URL is better than none. One that said 429 is not asked before its time.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from yarl import URL

from mirror.clock import Clock
from mirror.errors import ConfigInvalid, UpstreamLimited

REST_SECONDS = 30.0


@dataclass(slots=True, eq=False)
class Endpoint:
    """One URL. `base` ends in the path that repositories are below: `https://host/v2`, or `…/v2/prefix`."""

    base: URL
    failed_until: float = 0.0
    limited_until: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Read `http[s]://host[:port][/prefix]`. A prefix with a `v2` component is taken as the whole path, as
        containerd's `override_path`; else `/v2` follows it. Raises `ConfigInvalid`."""
        try:
            url = URL(text)
            valid = url.scheme in ("http", "https") and bool(url.host) and url.port is not None
        except ValueError:
            url, valid = URL(), False
        if not valid or url.user or url.password or url.query_string or url.fragment:
            raise ConfigInvalid("url: not of the form https://host[:port][/prefix]")
        path = url.raw_path.rstrip("/")
        if "v2" not in path.split("/"):
            path += "/v2"
        return cls(url.with_path(path, encoded=True))

    @property
    def origin(self) -> URL:
        """Scheme, host, port."""
        return self.base.origin()

    @property
    def ping(self) -> URL:
        """Where `GET /v2/` goes (distribution-spec, "Determining Support")."""
        parts = self.base.raw_path.split("/")
        return self.base.with_path("/".join([*parts[: parts.index("v2") + 1], ""]), encoded=True)

    def name(self, path: str) -> str:
        """What the registry itself calls repository `path`: below a prefix, if `base` has one."""
        parts = self.base.raw_path.split("/")
        return "/".join([*parts[parts.index("v2") + 1 :], path])

    def url(self, path: str, kind: str, reference: str, query: str = "") -> URL:
        """The URL of something of repository `path`."""
        target = f"{self.base}/{path}/{kind}/{reference}"
        return URL(f"{target}?{query}" if query else target, encoded=True)


class Endpoints:
    """All URLs of one source, and their rests on the monotonic clock."""

    def __init__(self, registry: str, urls: Iterable[str], clock: Clock, *, rest: float = REST_SECONDS) -> None:
        self.all = tuple(Endpoint.parse(url) for url in urls)
        if not self.all:
            raise ConfigInvalid(f"registries.{registry}.url: at least one is needed")
        self._registry = registry
        self._clock = clock
        self._rest = rest
        self._good = self.all[0]

    def __iter__(self) -> Iterator[Endpoint]:
        """Those that may be asked now, the likeliest first."""
        now = self._clock.monotonic()
        usable = [endpoint for endpoint in self.all if endpoint.limited_until <= now]
        return iter(sorted(usable, key=lambda endpoint: (endpoint.failed_until > now, endpoint is not self._good)))

    @property
    def limited_for(self) -> float:
        """Seconds until the first may be asked again after its 429; 0 where one may be asked now."""
        return max(0.0, min(endpoint.limited_until for endpoint in self.all) - self._clock.monotonic())

    def check(self) -> None:
        """Raises `UpstreamLimited` while every URL rests after a 429."""
        if (left := self.limited_for) > 0:
            raise UpstreamLimited(
                f"{self._registry} limits our requests; nothing is sent there for another {left:.0f} s",
                registry=self._registry,
                retry_after=left,
            )

    def answered(self, endpoint: Endpoint) -> None:
        """It works."""
        endpoint.failed_until = 0.0
        self._good = endpoint

    def failed(self, endpoint: Endpoint) -> None:
        """It did not answer, or broke off."""
        endpoint.failed_until = self._clock.monotonic() + self._rest

    def limited(self, endpoint: Endpoint, seconds: float) -> None:
        """It said 429."""
        endpoint.limited_until = self._clock.monotonic() + seconds
