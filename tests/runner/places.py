"""Who may be at work at the same time."""

import heapq
import itertools
import threading
from contextlib import contextmanager


class Places:
    """So many may be taken at a time. Who waits gets one by its rank, the lowest first, and in the order of coming."""

    def __init__(self, number):
        self.free = number
        self.changed = threading.Condition()
        self.waiting = []
        self.came = itertools.count()

    @contextmanager
    def one(self, rank=0, give_up=lambda: None):
        """Has one while the block runs. `give_up` is called while it waits, and raises when there is nothing to wait for."""
        ticket = rank, next(self.came)
        with self.changed:
            heapq.heappush(self.waiting, ticket)
            try:
                while not self.free or self.waiting[0] != ticket:
                    give_up()
                    self.changed.wait(1)
                self.free -= 1
            finally:
                self.waiting.remove(ticket)
                heapq.heapify(self.waiting)
                self.changed.notify_all()
        try:
            yield
        finally:
            with self.changed:
                self.free += 1
                self.changed.notify_all()
