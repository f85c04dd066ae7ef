"""What comes down the pipe of commands, right, nearly right or not at all: it is answered, or refused by name."""

import json
import os
import random
import threading
import unittest
from unittest import mock

import engine_path  # noqa: F401
from lockstep.commands import Apply, Compute, Fields, Load
from lockstep.control import LINE_BYTES, Control, Malformed, parse_line
from lockstep.server import Engine

RUNS = 3000
LOAD = dict(command="load", id=1, bundle="/", task="t.py:T", seed=1, microbatches=1, precision="fp32", exchange="fp32", clip_grad_norm=None,
            on_nonfinite="fail", deterministic=True, params={}, init_from=None)
COMPUTE = dict(command="compute", id=2, step=0, runs=[dict(lo=0, length=2, at=4096, samples=[[1, 2], [3]])])
APPLY = dict(command="apply", id=3, step=0, at=0, weight=2.5, filled=1)
VALUES = [None, True, -1, 0, 2**53, 2**70, 1.5, float("nan"), float("inf"), "", "a\0b", "\ud800", [], [[]], [float("nan")], {}, {"a": [None]}]


def changed(value, rng):
    """A copy with one value somewhere in it replaced, removed, or as it was."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        copy = {**value, key: changed(value[key], rng)}
        if rng.random() < 0.1:
            del copy[key]
        return copy
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return value[:at] + [changed(value[at], rng)] + value[at + 1:]
    return rng.choice(VALUES) if rng.random() < 0.7 else value


def mangled(line, rng):
    """The line with some of its bytes changed, cut or repeated."""
    data = bytearray(line)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(3)
        if how == 0:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif how == 1:
            del data[at: at + rng.randrange(1, 9)]
        else:
            data[at:at] = data[at: at + rng.randrange(1, 40)]
    return bytes(data)


def command_line(rng):
    line = json.dumps(changed(rng.choice([LOAD, COMPUTE, APPLY]), rng)).encode()
    return mangled(line, rng) if rng.random() < 0.5 else line


class RecordingControl(Control):
    """Hears what it is given, and keeps what the engine says."""

    def __init__(self, data):
        self.said = []
        commands, feed = os.pipe()
        self.pending, self.fd_in, self.fd_out = bytearray(), commands, -1
        self.feeding = threading.Thread(target=self.feed, args=(feed, data))
        self.feeding.start()

    def feed(self, feed, data):
        with open(feed, "wb") as file:
            file.write(data)

    def send(self, event, **fields):
        # As it would go down the pipe.
        self.said.append(json.loads(json.dumps({"event": event, **fields}, allow_nan=False)))

    def close(self):
        self.feeding.join()
        os.close(self.fd_in)


class ControlTest(unittest.TestCase):
    def serve(self, data):
        control = RecordingControl(data)
        Engine(control, None, -1, None, None).serve()
        control.close()
        return control.said

    def test_whatever_comes_is_answered_or_refused(self):
        rng = random.Random(7)
        for number in range(RUNS):
            line = command_line(rng)
            try:
                fields = Fields(parse_line(line))
                for parse in (Load.parse, Compute.parse, Apply.parse):
                    try:
                        parse(fields)
                    except Malformed as error:
                        self.assertTrue(str(error), line)
            except Malformed as error:
                self.assertTrue(str(error), (number, line))

    def test_an_engine_that_has_loaded_nothing_survives_all_of_it(self):
        rng = random.Random(8)
        # A load that is right would build a task.
        lines = [line for line in (command_line(rng) for _ in range(RUNS)) if b"load" not in line and b"stop" not in line and b"\n" not in line]
        said = self.serve(b"\n".join(lines) + b"\n")
        self.assertEqual(len(said), len(lines))
        for line, event in zip(lines, said):
            self.assertEqual((event["event"], event["kind"]), ("failed", "engine"), line)
            self.assertTrue(event["message"], line)

    def test_a_number_that_is_none_is_not_sent_back(self):
        for number in (float("nan"), [float("nan")], "1", -1, 2**60, True, {"a": 1}):
            [event] = self.serve(json.dumps({"command": "digest", "id": number}).encode() + b"\n")
            self.assertEqual((event["id"], event["message"]), (None, "no task is loaded"))

    def test_a_line_that_is_too_long_is_dropped_and_the_next_is_heard(self):
        said = self.serve(b"x" * (3 * LINE_BYTES) + b"\n" + json.dumps({"command": "digest", "id": 4}).encode() + b"\n")
        self.assertIn("longer than", said[0]["message"])
        self.assertEqual(said[1]["id"], 4)

    def test_the_largest_batch_fits_into_a_line(self):
        # As shared/job_spec.ts allows.
        ids = [2**53 - 1] * 1_048_576
        run = {"lo": 0, "length": 1, "at": 0, "samples": [ids]}
        line = json.dumps({**COMPUTE, "runs": [run], "ahead": {"step": 1, "microbatch": 0, "samples": ids}})
        self.assertEqual([event["message"] for event in self.serve(line.encode() + b"\n")], ["no task is loaded"])

    def test_progress_is_told_once_a_second(self):
        control = RecordingControl(b"")
        with mock.patch("lockstep.server.time.monotonic", side_effect=lambda: now):
            now = 5.0
            tell = Engine(control, None, -1, None, None).progress_teller(4, 9)
            for now in (5.1, 5.9, 6.0, 6.5, 6.9, 9.0):
                tell()
        control.close()
        self.assertEqual(control.said, [{"event": "microbatch", "id": 4, "step": 9}] * 2)

    def test_a_line_that_is_cut_off_is_the_end(self):
        self.assertEqual(self.serve(b'{"command":"digest"'), [])


if __name__ == "__main__":
    unittest.main()
