"""What went through this process since it started: the figures of `status` and of the metrics."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Traffic:
    """Requests for manifests and blobs, and bytes. `served` counts body bytes by registry."""

    hits: int = 0
    misses: int = 0
    served: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return self.hits + self.misses

    @property
    def hit_ratio(self) -> float | None:
        """Of the requests that found something, how many were answered from here; None before the first."""
        return self.hits / self.requests if self.requests else None
