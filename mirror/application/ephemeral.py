"""A mirror for the sake of one command, and of those that join it: it owns the data, listens on its socket alone, and
ends when the last of them is done (cli.md, "Which mirror").

It runs in a thread beside the command, which talks to it like to any other. Its log goes nowhere: the terminal is the
command's.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import aiofastnet
import uvloop

from mirror.application.building import Application, running
from mirror.config.model import Settings

_LOOK_EVERY = 0.02  # seconds between looks at who is still connected
_MOMENT = 0.5  # seconds in which the command's own connection is gone for sure
_HURRY = 1.0  # seconds that downloads have to be put aside when the command was interrupted


@contextmanager
def ephemeral(settings: Settings, *, remark: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Gives the path of the socket. At the end, however its own command ended, it waits for commands that joined:
    they asked for nothing of that. `remark` is called once where this takes a moment; Ctrl-C meanwhile ends it.

    Raises what `running` raises where it cannot start.
    """
    mask = os.umask(0o077)
    root = logging.getLogger()
    handlers, root.handlers[:] = list(root.handlers), [logging.NullHandler()]
    mirror = _InThread(settings)
    try:
        path = mirror.start()
        try:
            yield path
        finally:
            mirror.wait_for_others(remark)
    except BaseException:
        mirror.hurry()
        raise
    finally:
        mirror.end()
        root.handlers[:] = handlers
        os.umask(mask)


class _InThread:
    """The mirror's thread, from the command's side."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started: Future[tuple[Application, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=self._run, name="mirror")

    def start(self) -> Path:
        """Returns once it listens."""
        self._thread.start()
        app, _, _ = self._started.result()
        if app.listeners.socket is None:
            raise RuntimeError("a mirror always has its socket")
        return app.listeners.socket

    def wait_for_others(self, remark: Callable[[], None]) -> None:
        """Until nobody is connected any more."""
        said = self._wait(remark)
        if not self._thread.is_alive():
            return
        app, loop, _ = self._started.result()
        asyncio.run_coroutine_threadsafe(app.listeners.seal_socket(), loop).result()
        self._wait(remark if not said else lambda: None)  # for who connected between the two

    def _wait(self, remark: Callable[[], None]) -> bool:
        """Whether it took so long that `remark` was called."""
        app, _, _ = self._started.result()
        began, said = time.monotonic(), False
        while self._thread.is_alive() and app.listeners.socket_connections():
            if not said and time.monotonic() - began > _MOMENT:
                remark()
                said = True
            time.sleep(_LOOK_EVERY)
        return said

    def hurry(self) -> None:
        """Downloads under way are put aside at once; the next pull goes on from there."""
        if self._started.done() and self._started.exception() is None:
            app, loop, _ = self._started.result()
            loop.call_soon_threadsafe(app.ending.hurry, _HURRY)

    def end(self) -> None:
        """Stop it, and wait until it has stopped."""
        if not self._thread.is_alive():
            return
        if self._started.exception() is None:  # waits for a start under way
            _, loop, ended = self._started.result()
            loop.call_soon_threadsafe(ended.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=aiofastnet.loop_factory(uvloop.new_event_loop)) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits in `start`
            if not self._started.done():
                self._started.set_exception(error)

    async def _serve(self) -> None:
        ended = asyncio.Event()
        async with running(self._settings, listening=False) as app:
            self._started.set_result((app, asyncio.get_running_loop(), ended))
            await ended.wait()
