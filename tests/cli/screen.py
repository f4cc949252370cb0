"""A terminal's screen, as pyte (an emulator of VT100 and xterm) understands what was written to it."""

import pyte


class Screen:
    """`feed` it what a program wrote; then look at what a person sees, and what scrolled away above."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.5)
        self._stream = pyte.Stream(self._screen)

    def feed(self, text: str) -> None:
        self._stream.feed(text)

    def lines(self) -> list[str]:
        """What is to be seen, without empty lines below."""
        lines = [str(line).rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def everything(self) -> list[str]:
        """What scrolled away, and what is to be seen."""
        columns = self._screen.columns
        past = ["".join(line[x].data for x in range(columns)).rstrip() for line in self._screen.history.top]
        return [*past, *self.lines()]

    def cursor(self) -> tuple[int, int]:
        """Row and column, from 0."""
        return self._screen.cursor.y, self._screen.cursor.x
