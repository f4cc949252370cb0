"""Example sessions as documents show them: `$ command` and below it what a terminal then shows.

What differs from one run to the next is compared by its form alone: digests and IDs, how long ago something was, rates,
and the width of columns, which follows from them. `…` at the end of a line stands for any text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

PROMPT = "$ "
_FENCE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_AGO = re.compile(r"(About an? \w+|\d+ \w+|Less than a second) ago")
_HEX = re.compile(r"\b[0-9a-f]{12,}\b")
_GAP = re.compile(r" {2,}")


@dataclass(frozen=True, slots=True)
class Step:
    """A command and what is shown below it."""

    command: str
    shown: tuple[str, ...]

    @property
    def fails(self) -> bool:
        """Whether what it shows is a failure."""
        return any(line.startswith("mirror: ") for line in self.shown)


def steps(document: str) -> Iterator[Step]:
    """Every step of every `console` block of a Markdown document, in order. What stands above a block's first prompt
    is no step's, and wrong: ValueError."""
    for block in _FENCE.findall(document):
        command: str | None = None
        shown: list[str] = []
        for line in block.rstrip("\n").splitlines():
            if line.startswith(PROMPT):
                if command is not None:
                    yield Step(command, tuple(shown))
                command, shown = line.removeprefix(PROMPT), []
            elif command is None:
                raise ValueError(f"no prompt above {line!r}")
            else:
                shown.append(line)
        if command is not None:
            yield Step(command, tuple(shown))


def differences(step: Step, seen: list[str]) -> list[str]:
    """How what was seen differs from what the document shows; nothing where it does not."""
    wanted = list(step.shown)
    found = [f"- {line}" for line in wanted[len(seen) :]] + [f"+ {line}" for line in seen[len(wanted) :]]
    for want, got in zip(wanted, seen, strict=False):
        if not _alike(want, got):
            found += [f"- {want}", f"+ {got}"]
    return found


def _alike(want: str, got: str) -> bool:
    if want.endswith("…") and not got.endswith("…"):
        want = want.removesuffix("…")
        return _form(got).startswith(_form(want).rstrip())
    return _form(want) == _form(got)


def _form(line: str) -> str:
    line = _AGO.sub("SOME TIME ago", line)
    line = _HEX.sub(lambda found: "#" * len(found[0]), line)
    return _GAP.sub("  ", line).rstrip()
