"""The engine as a process: pipes, prints, malformed commands, and its end."""

import json
import os
import signal
import subprocess
import sys
import time
import unittest

from engine_driver import DEADLINE_S, EngineDriver, ExecutedEngineDriver, Failed
from engine_path import ENGINE_FOLDER

# Starts an engine, says its process id, and waits; the engine must not outlive it.
PARENT = """
import os, subprocess, sys
commands, _ = os.pipe()
events, event_out = os.pipe()
memory = os.memfd_create("m")
# The write end of the commands is inherited by nobody else here, but a copy is kept in the engine: no end of file.
def place():
    for target, fd in ((13, commands), (14, event_out), (15, memory)):
        os.dup2(fd, target, inheritable=True)
    os.dup2(_, 16, inheritable=True)
engine = subprocess.Popen([sys.executable, "-m", "lockstep.engine", "--control-in", "13", "--control-out", "14",
                           "--exchange", "15", "--state", "15", "--snapshot", "15"], preexec_fn=place, close_fds=False)
os.read(events, 1)
print(engine.pid, flush=True)
engine.wait()
"""


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class ProcessTest(unittest.TestCase):
    def test_one_engine_from_start_to_stop(self):
        driver = ExecutedEngineDriver()
        self.check_started(driver)
        self.check_malformed_commands(driver)
        driver.load_class("Printing")
        self.check_commands_in_the_wrong_state(driver)
        self.check_evaluate_and_finish(driver)
        self.check_prints(driver)
        self.check_descriptors(driver)
        driver.send("stop")
        # The pipe holds nothing but the JSON that read_event has parsed, up to its end.
        with self.assertRaises(EOFError):
            driver.read_event()
        self.assertEqual(driver.buffer, b"")
        self.assertEqual(driver.wait(), 0)
        driver.close()

    def check_started(self, driver):
        started = driver.started
        self.assertEqual((started["pid"], started["device"]), (driver.pid, "cpu"))
        self.assertRegex(started["fingerprint"], "^[0-9a-f]{64}$")

    def check_malformed_commands(self, driver):
        load = dict(bundle="/", task="t.py:T", seed=1, microbatches=1, precision="fp32", exchange="fp32", clip_grad_norm=None,
                    on_nonfinite="fail", deterministic=True, params={}, init_from=None)
        cases = [
            (b"", "not JSON"), (b"{", "not JSON"), (b"[1]", "not a JSON object"), (b"\xff\xfe", "not JSON"), (b"null", "not a JSON object"),
            (b"[" * 100_000, "not JSON"), (b"x" * (64 * 1024 * 1024 + 1), "longer than"), (b'{"id":5}', "unknown command None"),
            (b'{"command":"__init__"}', "unknown command '__init__'"), (b'{"command":["load"]}', "unknown command"),
            (b'{"command":"digest"}', "no task is loaded"), (b'{"command":"snapshot"}', "no task is loaded"),
        ]
        bad_fields = [
            ({"seed": -1}, "seed"), ({"seed": 1.5}, "seed"), ({"seed": True}, "seed"), ({"seed": 2**60}, "seed"), ({"microbatches": 0}, "microbatches"),
            ({"precision": "fp8"}, "precision"), ({"exchange": "fp16"}, "exchange"), ({"clip_grad_norm": 0}, "clip_grad_norm"), ({"clip_grad_norm": float("nan")}, "clip_grad_norm"),
            ({"on_nonfinite": None}, "on_nonfinite"), ({"deterministic": 1}, "deterministic"), ({"params": []}, "params"), ({"task": "a\0b"}, "task"),
            ({"init_from": 7}, "init_from"), ({"init_from": "a\0b"}, "init_from"),
        ]
        cases += [(json.dumps({"command": "load", **load, **bad}).encode(), f"{field} is ") for bad, field in bad_fields]
        cases += [(json.dumps({"command": "load", **{k: v for k, v in load.items() if k != name}}).encode(), f"{name} is missing") for name in load]
        for line, words in cases:
            with self.subTest(line[:60]):
                driver.send_bytes(line + b"\n")
                event = driver.read_event()
                self.assertEqual((event["event"], event["kind"]), ("failed", "engine"))
                self.assertIn(words, event["message"])

    def check_commands_in_the_wrong_state(self, driver):
        run = {"lo": 0, "length": 1, "at": 0, "samples": [[1]]}
        for command, fields, words in [
            ("load", {}, "loaded already"),
            ("compute", {"step": 0, "runs": [run]}, "exchange memory has 0 bytes"),
            ("compute", {"step": 0, "runs": [{**run, "at": 12}]}, "not a multiple of 4096"),
            ("compute", {"step": 0, "runs": [{**run, "length": 2}]}, "1 lists for 2"),
            ("compute", {"step": 0, "runs": [{**run, "samples": [[-1]]}]}, "an id"),
            ("compute", {"step": 0, "runs": [{**run, "samples": [["1"]]}]}, "an id"),
            ("compute", {"step": 0, "runs": 5}, "runs is not a list"),
            ("compute", {"step": 0, "runs": [], "ahead": 5}, "ahead is not an object"),
            ("compute", {"step": 0, "runs": [], "ahead": {"step": 1, "microbatch": 0, "samples": [True]}}, "ahead.samples: an id"),
            ("apply", {"step": 0, "at": 0, "weight": 0, "filled": 1}, "weight"),
            ("apply", {"step": 0, "at": 0, "weight": 1, "filled": 1}, "exchange memory has 0 bytes"),
            ("import_state", {"bytes": 100}, "state memory has 0 bytes"),
        ]:
            with self.subTest(words), self.assertRaises(Failed) as caught:
                driver.ask(command, **fields)
            self.assertIn(words, caught.exception.message)
            self.assertEqual(caught.exception.kind, "engine")
        driver.size_exchange(2)
        for bad, words in (({"samples": [[40]]}, "sample 40 does not exist: the data set has 40"), ({"lo": 4}, "ends at microbatch 5")):
            with self.subTest(words), self.assertRaisesRegex(Failed, words):
                driver.ask("compute", step=0, runs=[{**run, **bad}])

    def check_evaluate_and_finish(self, driver):
        before = driver.ask("digest")
        first, second = driver.ask("evaluate")["metrics"], driver.ask("evaluate")["metrics"]
        self.assertEqual((first["training"], first["one"]), (0.0, 1.0))
        self.assertEqual(first["draw"], second["draw"])
        self.assertEqual(driver.ask("finish")["event"], "finished")
        self.assertEqual({**driver.ask("digest"), "id": 0}, {**before, "id": 0})

    def check_prints(self, driver):
        driver.stdout.seek(0)
        self.assertEqual(driver.stdout.read(), b"a line\n\xff\xfe binary\n" * 2 + b"finished here\n")
        self.assertIn("to stderr", driver.read_prints(driver.stderr))

    def check_descriptors(self, driver):
        for fd in (3, 4, 5, 6, 7):
            with open(f"/proc/{driver.pid}/fdinfo/{fd}") as file:
                flags = int(next(line.split()[1] for line in file if line.startswith("flags:")), 8)
            self.assertTrue(flags & os.O_CLOEXEC, fd)

    def test_children_of_children_leave_no_trace(self):
        driver = EngineDriver()
        driver.load_class("Forking")
        driver.ask("evaluate")
        self.assertEqual(driver.read_prints(driver.stderr), "")
        self.assertEqual(driver.close(), 0)

    def test_an_engine_whose_standard_output_was_replaced_lives_on(self):
        driver = EngineDriver()
        driver.load_class("Replacing")
        driver.ask("evaluate")
        driver.ask("digest")
        self.assertEqual(driver.close(), 0)

    def test_the_end_of_the_commands_is_the_end_of_the_engine(self):
        driver = ExecutedEngineDriver()
        started = time.monotonic()
        self.assertEqual(driver.close(), 0)
        self.assertLess(time.monotonic() - started, 5)

    def test_the_engine_dies_with_its_daemon(self):
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ENGINE_FOLDER), "OMP_NUM_THREADS": "1"}
        )
        pid = int(parent.stdout.readline())
        self.assertFalse(gone(pid))
        parent.send_signal(signal.SIGKILL)
        parent.wait(DEADLINE_S)
        parent.stdout.close()
        ends = time.monotonic() + 5
        while not gone(pid) and time.monotonic() < ends:
            time.sleep(0.01)
        self.assertTrue(gone(pid))


if __name__ == "__main__":
    unittest.main()
