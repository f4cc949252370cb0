"""Several things asked for at once: one that fails does not stop the others, and what failed is listed at the end."""

from dataclasses import dataclass, field

from mirror.cli.fields import Row, familiar, text
from mirror.cli.transport import error_of
from mirror.errors import MirrorError


class PartFailed(MirrorError):
    """Some of a batch."""

    exit_code = 3


@dataclass(slots=True)
class Batch:
    """What was asked for, as far as it is known, and what of it failed."""

    asked: int
    seen: int = 0  # images, where one name may stand for many
    failed: list[tuple[str, MirrorError]] = field(default_factory=list)

    def take(self, event: Row) -> bool:
        """Whether this event of a stream is a failure; it is noted then."""
        kind = event.get("event")
        if kind == "image":
            self.seen += 1
        if kind == "end" and event.get("failed") and not self.failed:
            self.add("", MirrorError("something failed, and the mirror did not say what"))
        if kind != "error":
            return False
        self.add(text(event, "name"), error_of(event))
        return True

    def add(self, name: str, error: MirrorError) -> None:
        self.failed.append((familiar(name), error))

    def lines(self) -> list[str]:
        """A line on each that failed, escaped nowhere yet."""
        return [f"  {_named(name, error)}" for name, error in self.failed]

    def error(self) -> MirrorError | None:
        """What the command fails with: the error itself where only one thing was asked for, else `PartFailed`."""
        if not self.failed:
            return None
        count = max(self.asked, self.seen, len(self.failed))
        if count == 1:
            return self.failed[0][1]
        return PartFailed("\n".join([f"{len(self.failed)} of {count} failed:", *self.lines()]))

    def end(self) -> None:
        """Raise where something failed."""
        error = self.error()
        if error is not None:
            raise error


def _named(name: str, error: MirrorError) -> str:
    return f"{name}: {error.message}" if name and name not in error.message else error.message
