"""A shared/exclusive lock for the device threads: jobs run concurrently, but a model is loaded exclusively.

While loading, diffusers and transformers change process-wide state (the default dtype, module initialization), which
would affect computations on other devices at the same time.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class LoadLock:
    """A shared/exclusive lock.

    A thread that holds the lock shared can request it exclusively; it then waits until all others call :meth:`pause`
    or release the lock.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._inside: Counter[int] = Counter()  # thread id -> number of nested entries
        self._exclusive: int | None = None  # the id of the thread with exclusive access
        self._asking = 0  # number of threads that wait for exclusive access

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock shared; waits while a thread has or requests exclusive access. Reentrant."""
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
        """Hold the lock exclusively: all other threads have released it or are paused. Reentrant."""
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
        """Let threads that wait for exclusive access run; called by a running job between two steps."""
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
