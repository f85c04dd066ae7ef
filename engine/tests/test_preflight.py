"""What the pre-flight says of an engine, and how it looks at the time."""

import json
import subprocess
import sys
import unittest
from unittest import mock

from engine_path import ENGINE_FOLDER
import preflight  # noqa: E402  engine_path puts it on the path


def said_by(*options: str) -> dict:
    """All that it says, in one dictionary."""
    command = [sys.executable, *options, str(ENGINE_FOLDER / "preflight.py")]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=120).stdout
    return {key: value for line in output.splitlines() for key, value in json.loads(line).items()}


class PreflightTest(unittest.TestCase):
    def test_an_engine_that_starts(self):
        found = said_by()
        self.assertEqual(found["memfd"], "")
        self.assertIn(found["device"], ("cpu", "cuda"))
        self.assertGreater(found["matmul_gflops"], 0)
        self.assertNotIn("problem", found)

    def test_what_is_missing_is_named_after_what_is_there(self):
        # Without the folder of installed packages.
        found = said_by("-S", "-E")
        self.assertEqual(list(found), ["python", "memfd", "problem"])
        self.assertIn("No module named", found["problem"])

    def test_the_time_in_which_others_have_the_processor_does_not_count(self):
        now, waited = [0.0], [0.0]

        def multiply() -> None:
            now[0] += 0.010
            waited[0] += 0.009

        with mock.patch("preflight.time.perf_counter", lambda: now[0]):
            with mock.patch("preflight.waited_seconds", lambda: waited[0]):
                self.assertAlmostEqual(preflight.rate_of(multiply), 1000)
            with mock.patch("preflight.waited_seconds", lambda: 0.0):
                self.assertAlmostEqual(preflight.rate_of(multiply), 100)

    def test_the_best_run_counts(self):
        rates = iter([10.0, 40.0, 20.0, 1.0, 1.0, 1.0, 1.0, 1.0])
        with mock.patch("preflight.rate_of", lambda multiply: next(rates)):
            device = mock.Mock(type="cpu")
            with mock.patch("torch.randn"), mock.patch("torch.empty"), mock.patch("torch.mm"):
                self.assertAlmostEqual(preflight.matmul_gflops(device), 40 * 2 * preflight.SIDE["cpu"] ** 3 / 1e9)


if __name__ == "__main__":
    unittest.main()
