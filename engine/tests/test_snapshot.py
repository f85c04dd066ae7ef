"""Snapshots: the bytes that export_state writes, in a memory that is reused."""

import os
import unittest

from engine_driver import EngineDriver

STEPS = [[[3, 8], [1, 2]], [[4, 5], [6, 7]], [[9, 10, 11], [12, 14]]]


class SnapshotTest(unittest.TestCase):
    def engine(self, name):
        driver = EngineDriver()
        self.addCleanup(driver.close)
        driver.load_class(name)
        return driver

    def exported(self, driver):
        return os.pread(driver.state, driver.ask("export_state")["bytes"], 0)

    def check_snapshot(self, driver):
        answer = driver.ask("snapshot")
        self.assertEqual(answer["event"], "snapshot_taken")
        self.assertGreater(answer["copy_ms"], 0)
        image = self.exported(driver)
        self.assertEqual(answer["bytes"], len(image))
        self.assertEqual(os.pread(driver.snapshot, len(image), 0), image)
        return image

    def mappings(self, driver):
        """Where the snapshot memory is mapped."""
        with open(f"/proc/{driver.pid}/maps") as file:
            return [line.split()[0] for line in file if "/memfd:snapshot" in line]

    def memory_kib(self, driver, field):
        with open(f"/proc/{driver.pid}/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(f"{field}:"))

    def test_a_snapshot_is_what_export_state_writes(self):
        for name in ("Plain", "Scheduled", "Normed", "TiedTask", "Mixed"):
            with self.subTest(name):
                driver = self.engine(name)
                images = [self.check_snapshot(driver)]
                for step, samples in enumerate(STEPS):
                    driver.train_step(step, samples)
                    images.append(self.check_snapshot(driver))
                self.assertEqual(len(set(images)), 4)

    def test_the_memory_grows_with_the_state_and_never_shrinks(self):
        driver = self.engine("Wide")
        start = self.exported(driver)
        self.assertEqual(os.fstat(driver.snapshot).st_size, 0)
        small = driver.ask("snapshot")["bytes"]
        self.assertEqual(os.fstat(driver.snapshot).st_size, small)
        driver.train_step(0, STEPS[0])  # Adam's state comes into being.
        large = len(self.check_snapshot(driver))
        self.assertGreater(large, 2.9 * small)
        self.assertEqual(os.fstat(driver.snapshot).st_size, large)
        mapped = self.mappings(driver)
        self.assertEqual(len(mapped), 1)
        os.ftruncate(driver.state, 0)
        os.pwrite(driver.state, start, 0)
        driver.ask("import_state", bytes=len(start))
        self.assertEqual(self.check_snapshot(driver), start)
        self.assertEqual(os.fstat(driver.snapshot).st_size, large)
        self.assertEqual(self.mappings(driver), mapped)

    def test_the_second_snapshot_takes_no_memory(self):
        driver = self.engine("Wide")
        driver.train_step(0, STEPS[0])
        image_kib = driver.ask("snapshot")["bytes"] / 1024
        before, mapped = self.memory_kib(driver, "VmRSS"), self.mappings(driver)
        with open(f"/proc/{driver.pid}/clear_refs", "w") as file:
            file.write("5")  # The peak becomes the present value.
        driver.ask("snapshot")
        self.assertLess(self.memory_kib(driver, "VmHWM"), before + image_kib / 20)
        self.assertEqual(self.mappings(driver), mapped)

    def test_an_imported_state_is_what_the_next_snapshot_holds(self):
        survivor, joiner = self.engine("Mixed"), self.engine("Mixed")
        survivor.train_step(0, STEPS[0])
        joiner.train_step(0, STEPS[1])
        before = self.check_snapshot(joiner)
        image = self.check_snapshot(survivor)
        os.pwrite(joiner.state, image, 0)
        joiner.ask("import_state", bytes=len(image))
        self.assertNotEqual(image, before)
        self.assertEqual(self.check_snapshot(joiner), image)
        joiner.train_step(1, STEPS[2])
        self.check_snapshot(joiner)

    def test_a_memory_that_was_cut_short_is_written_anew(self):
        driver = self.engine("Plain")
        for length in (0, 1, 100):
            self.check_snapshot(driver)
            os.ftruncate(driver.snapshot, length)
        self.check_snapshot(driver)


if __name__ == "__main__":
    unittest.main()
