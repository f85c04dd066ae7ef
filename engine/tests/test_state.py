"""Training states: exported, taken over by a fresh engine, and refused when they are damaged."""

import os
import unittest

from engine_driver import EngineDriver, Failed

STEPS = [[[3, 8], [1, 2]], [[4, 5], [6, 7]], [[9, 10, 11], [12, 14]], [[20, 21], [22, 23]]]


class StateTest(unittest.TestCase):
    def engine(self, name, **overrides):
        driver = EngineDriver()
        self.addCleanup(driver.close)
        driver.load_class(name, **overrides)
        return driver

    def digests(self, driver):
        answer = driver.ask("digest")
        return answer["weights"], answer["state"]

    def image(self, driver):
        answer = driver.ask("export_state")
        data = os.pread(driver.state, answer["bytes"], 0)
        self.assertEqual((len(data), os.fstat(driver.state).st_size), (answer["bytes"],) * 2)
        return answer, data

    def give(self, driver, data):
        os.ftruncate(driver.state, 0)
        os.pwrite(driver.state, data, 0)
        return driver.ask("import_state", bytes=len(data))

    def test_a_healed_engine_goes_on_bit_for_bit(self):
        for name in ("Plain", "Scheduled", "Normed", "TiedTask", "Expanded"):
            with self.subTest(name):
                survivor, joiner = self.engine(name), self.engine(name)
                for step in (0, 1):
                    survivor.train_step(step, STEPS[step])
                exported, data = self.image(survivor)
                self.assertNotEqual(self.digests(joiner), self.digests(survivor))
                imported = self.give(joiner, data)
                self.assertEqual(imported["state"], self.digests(survivor)[1])
                self.assertEqual(imported["state"], exported["sha256"])
                self.assertEqual(self.digests(joiner), self.digests(survivor))
                for step in (2, 3):
                    one, other = survivor.train_step(step, STEPS[step]), joiner.train_step(step, STEPS[step])
                    self.assertEqual((one["loss"], one["lr"]), (other["loss"], other["lr"]))
                self.assertEqual(self.digests(joiner), self.digests(survivor))

    def test_an_older_state_replaces_a_newer_one(self):
        driver = self.engine("Plain")
        start = self.digests(driver)
        _, data = self.image(driver)
        driver.train_step(0, STEPS[0])
        after = self.digests(driver)
        self.give(driver, data)
        self.assertEqual(self.digests(driver), start)
        driver.train_step(0, STEPS[0])
        self.assertEqual(self.digests(driver), after)

    def test_damaged_and_foreign_states_are_refused_and_change_nothing(self):
        driver, other = self.engine("Normed"), self.engine("Plain")
        driver.train_step(0, STEPS[0])
        before = self.digests(driver)
        _, data = self.image(driver)
        _, foreign = self.image(other)
        for name, bad, reason in (
            ("another model's", foreign, "another model"),
            ("cut off", data[:-1], "truncated"),
            ("no header", b"\xff" * len(data), "header claims"),
            ("without an optimizer", data.replace(b'"optimizer"', b'"optimizes"'), "no optimizer"),
            ("another optimizer's tensor name", data.replace(b'"tensor\\"', b'"tansor\\"'), "cannot be read"),
        ):
            with self.subTest(name):
                self.assertNotEqual(bad, data)
                with self.assertRaisesRegex(Failed, reason) as caught:
                    self.give(driver, bad)
                self.assertEqual((caught.exception.phase, caught.exception.kind), ("import_state", "engine"))
                self.assertEqual(self.digests(driver), before)
        with self.assertRaisesRegex(Failed, "has .* bytes, not"):
            driver.ask("import_state", bytes=len(data) + 10**6)
        self.give(driver, data)
        self.assertEqual(self.digests(driver), before)

    def test_the_weights_digest_is_what_anyone_can_recompute(self):
        import hashlib
        import tempfile

        import lockstep

        driver = self.engine("TiedTask")
        driver.train_step(0, STEPS[0])
        with tempfile.TemporaryDirectory() as folder:
            driver.ask("export_model", path=folder)
            self.assertEqual(os.listdir(folder), ["model.safetensors"])
            tensors = lockstep.load_model(f"{folder}/model.safetensors")
        sha256 = hashlib.sha256()
        for name in sorted(name for name in tensors if not name.startswith("again.")):
            sha256.update(tensors[name].numpy().tobytes())
        self.assertEqual(sha256.hexdigest(), driver.ask("digest")["weights"])

    def test_one_bit_of_a_parameter_changes_both_digests(self):
        driver = self.engine("Plain")
        before = self.digests(driver)
        _, data = self.image(driver)
        damaged = data[:-1] + bytes([data[-1] ^ 1])
        self.give(driver, damaged)
        after = self.digests(driver)
        self.assertNotEqual(before[0], after[0])
        self.assertNotEqual(before[1], after[1])

    def test_export_to_a_place_that_cannot_be_written(self):
        driver = self.engine("Plain")
        with self.assertRaisesRegex(Failed, "export_model raised .*Error"):
            driver.ask("export_model", path="/proc/nowhere")
        driver.ask("digest")


if __name__ == "__main__":
    unittest.main()
