"""Runs several calls at once, line by line of the product's code, in an order that a test picks."""

import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType, ModuleType
from typing import Any


class Killed(BaseException):
    """Ends a call in the middle, past every `except` that a dead process would not run."""


class _Call(threading.Thread):
    """One call in a thread of its own, which takes a step only when it is told to."""

    def __init__(self, call: Callable[[], object], files: set[str], dies_at: int | None) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._files = files
        self._dies_at = dies_at
        self._steps = 0
        self._go = threading.Semaphore(0)
        self._stands = threading.Semaphore(0)
        self.ended = False
        self.result: object = None
        self.error: Exception | None = None
        self.start()

    def step(self) -> None:
        """Let the call run to its next line, or to its end."""
        self._go.release()
        assert self._stands.acquire(timeout=10)

    def run(self) -> None:
        """Make the call, line by line."""
        self._go.acquire()
        sys.settrace(self._trace)
        try:
            self.result = self._call()
        except Killed:
            pass
        except Exception as error:  # noqa: BLE001  (raised again where the test can see it)
            self.error = error
        finally:
            sys.settrace(None)
            self.ended = True
            self._stands.release()

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        if event == "line":
            self._stands.release()
            self._go.acquire()
            self._steps += 1
            if self._steps == self._dies_at:
                raise Killed
        return self._trace


def interleaved(
    *calls: Callable[[], object],
    order: Iterable[int] = (),
    within: Iterable[ModuleType],
    dies_at: int | None = None,
) -> list[object]:
    """Make all *calls*, changing from one to another between any two lines of *within*.

    Each number of *order* picks among the calls that have not ended; when they are used up, the
    calls are ended one after the other. With *dies_at*, each call is ended at its so-manieth line.
    """
    files = {str(module.__file__) for module in within}
    running = everybody = [_Call(call, files, dies_at) for call in calls]
    for number in order:
        if not running:
            break
        running[number % len(running)].step()
        running = [call for call in running if not call.ended]
    for call in running:
        while not call.ended:
            call.step()
    for call in everybody:
        if call.error is not None:
            raise call.error
    return [call.result for call in everybody]
