"""A server that is honest by default, and wrong where its script says so."""

from __future__ import annotations

import fnmatch
import ssl
from dataclasses import dataclass

from tests.support.fake_registry.intake import Intake
from tests.support.fake_registry.wire import Answer, Behaviour, FakeServer, Match, Request


@dataclass(slots=True)
class Scripted:
    """One line of the script; `left` times still, None for ever."""

    match: Match
    behaviour: Behaviour
    left: int | None
    used: int = 0

    def applies(self, request: Request) -> bool:
        return self.left != 0 and matches(self.match, request)


def matches(match: Match, request: Request) -> bool:
    """Whether a pattern over "METHOD path" (as a shell's) or a function fits the request."""
    return fnmatch.fnmatchcase(request.line, match) if isinstance(match, str) else match(request)


class ScriptedServer(FakeServer):
    """A server whose honest answers a script may change.

    Of several lines that apply, the oldest wins until it is used up, so that a test writes down what happens in turn.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(tls=tls, host=host, port=port)
        self.lines: list[Scripted] = []
        self.intakes: list[tuple[Match, Intake, int | None]] = []

    def script(self, match: Match, behaviour: Behaviour, *, times: int | None = 1) -> Scripted:
        """Let the next `times` requests that match (None: all of them) be answered by `behaviour`.

        `match` is a shell pattern over "METHOD path", such as "GET */blobs/*", or a function of the request.
        """
        line = Scripted(match, behaviour, times)
        self.lines.append(line)
        return line

    def script_intake(self, match: Match, intake: Intake, *, times: int | None = 1) -> None:
        """Take the bodies of the next `times` requests that match in this way. What is taken of a PATCH is kept."""
        self.intakes.append((match, intake, times))

    def unscript(self) -> None:
        """Be honest again."""
        self.lines.clear()
        self.intakes.clear()

    def count(self, match: Match = "*") -> int:
        """How many requests matched."""
        return sum(matches(match, request) for request in self.requests)

    def seen(self, match: Match = "*") -> list[Request]:
        """The requests that matched, in order."""
        return [request for request in self.requests if matches(match, request)]

    def sent(self, pattern: str = "*") -> int:
        """Body bytes sent for paths that match a shell pattern."""
        return sum(count for path, count in self.body_bytes.items() if fnmatch.fnmatchcase(path, pattern))

    def received(self, pattern: str = "*") -> int:
        """Body bytes received for paths that match a shell pattern."""
        return sum(count for path, count in self.taken_bytes.items() if fnmatch.fnmatchcase(path, pattern))

    def forget(self) -> None:
        """Counters back to nothing."""
        self.requests.clear()
        self.body_bytes.clear()
        self.taken_bytes.clear()

    def intake(self, request: Request) -> Intake:
        for position, (match, intake, left) in enumerate(self.intakes):
            if left != 0 and matches(match, request):
                self.intakes[position] = (match, intake, None if left is None else left - 1)
                return intake
        return Intake()

    async def answer(self, request: Request) -> Answer:
        honest = self.honest(request)
        line = next((line for line in self.lines if line.applies(request)), None)
        if line is None:
            return honest
        line.used += 1
        if line.left is not None:
            line.left -= 1
        return line.behaviour(request, honest)

    def honest(self, request: Request) -> Answer:
        """What is said when no script applies."""
        raise NotImplementedError
