"""A lock for the threads of several devices: they work side by side, but whoever loads a model does so alone.

While they load, diffusers and transformers change what holds for the whole process (the default dtype, how modules are
made); work on another device at that moment would compute with it.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class LoadLock:
    """Shared by many, or exclusive to one. A thread inside may ask for it exclusively; it waits for the others' next pause."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._inside: Counter[int] = Counter()  # by thread, how often it has entered
        self._exclusive: int | None = None  # the thread that is
        self._asking = 0  # threads that wait to be alone

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Work inside the block; it begins when nobody is alone or waits to be. A thread may enter again."""
        me = threading.get_ident()
        with self._change:
            self._enter(me)
        try:
            yield
        finally:
            with self._change:
                self._leave(me)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Have every other thread outside, or paused, while the block runs."""
        me, mine = threading.get_ident(), 0
        with self._change:
            again = self._exclusive == me
            if not again:
                mine = self._inside.pop(me, 0)
                self._asking += 1
                self._change.notify_all()
                self._change.wait_for(lambda: self._exclusive is None and not self._inside)
                self._asking -= 1
                self._exclusive = me
        try:
            yield
        finally:
            if not again:
                with self._change:
                    self._exclusive = None
                    if mine:
                        self._inside[me] = mine
                    self._change.notify_all()

    def pause(self) -> None:
        """Let those through who wait to be alone; for a thread at work, between two of its steps."""
        me = threading.get_ident()
        with self._change:
            if not self._asking or me not in self._inside:
                return
            mine = self._inside.pop(me)
            self._change.notify_all()
            self._change.wait_for(lambda: self._exclusive is None and not self._asking)
            self._inside[me] = mine

    def _enter(self, me: int) -> None:
        if self._exclusive != me and me not in self._inside:
            self._change.wait_for(lambda: self._exclusive is None and not self._asking)
        self._inside[me] += 1

    def _leave(self, me: int) -> None:
        self._inside[me] -= 1
        if not self._inside[me]:
            del self._inside[me]
        self._change.notify_all()
