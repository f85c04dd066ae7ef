"""Streams and events of CUDA that only say what was asked of them, on the CPU."""

import contextlib
from unittest import mock


class Event:
    def __init__(self):
        self.done = False

    def query(self):
        return self.done


class Stream:
    """Work on it takes place at once; its events are done when the test says so, or when it is waited for."""

    def __init__(self):
        self.events = []
        self.waited_for = []
        self.synchronized = 0

    def wait_stream(self, other):
        self.waited_for.append(other)

    def record_event(self):
        self.events.append(Event())
        return self.events[-1]

    def synchronize(self):
        self.synchronized += 1
        for event in self.events:
            event.done = True


class FakeCuda:
    """While it is installed, `current` is the current stream, and `streams` are those that were made."""

    def __init__(self):
        self.current = Stream()
        self.streams = []

    def install(self, test):
        for name, value in {
            "Stream": self.new_stream, "current_stream": lambda: self.current, "stream": self.within,
        }.items():
            patch = mock.patch(f"torch.cuda.{name}", value)
            patch.start()
            test.addCleanup(patch.stop)

    def new_stream(self):
        self.streams.append(Stream())
        return self.streams[-1]

    @contextlib.contextmanager
    def within(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before
