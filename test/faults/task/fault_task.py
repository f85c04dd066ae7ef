"""A small task whose engines misbehave when the job's `params` say so. The weights depend on none of that.

params:
    microbatch_ms   how long a microbatch takes at least, without using the processor, until the file `hurry` is there
    hold_from       from this step on ten times as long, so that the job does not end before the test is done with it
    fault           what one engine does, once; see Misbehaviour. The engine that creates the file `claimed` first is the one.
    at_step         the step at which it does it
    marks           folder of the files `claimed` and `hurry`
    width           of the hidden layer: there are about 43 times as many parameters
    poisoned        a sample whose loss is not a number
"""

import ctypes
import os
import signal
import time

import torch
from torch import nn

import lockstep

INPUTS, CLASSES, SAMPLES = 32, 8, 2400
# Longer than any deadline of the product.
HANG_SECONDS = 3600
PRINT_EVERY = 10
HOARD_BYTES = 1_000_000_000


class FaultTask(lockstep.Task):
    step = -1
    doomed = False
    pace = 1

    def model(self):
        width = self.params["width"]
        return nn.Sequential(
            nn.Linear(INPUTS, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, CLASSES)
        )

    def dataset(self):
        inputs, labels = torch.randn(SAMPLES, INPUTS), torch.randint(CLASSES, (SAMPLES,))
        if self.params.get("poisoned") is not None:
            inputs[self.params["poisoned"]] = torch.nan
        return torch.utils.data.TensorDataset(inputs, labels)

    def optimizer(self, model):
        self.parameters = list(model.parameters())
        return torch.optim.Adam(self.parameters, lr=0.003)

    def loss(self, model, batch):
        self.dawdle()
        if self.doomed:
            self.doomed = False
            self.fail()
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def dawdle(self):
        if self.params["microbatch_ms"] > 0 and not os.path.exists(os.path.join(self.params["marks"], "hurry")):
            held = 10 if self.step >= self.params["hold_from"] else 1
            time.sleep(self.pace * held * self.params["microbatch_ms"] / 1000)

    def lr(self, step):
        self.step = step
        self.note(step)
        if step % PRINT_EVERY == 0:
            print("applied step", step)
        if "fault" in self.params and step == self.params["at_step"] and self.claim():
            if self.params["fault"] == "flip_bit":
                self.parameters[0].data.view(torch.int32)[0, 0] ^= 1
            elif self.params["fault"] == "slow":
                self.pace = 10
            else:
                self.doomed = True
        return None

    def note(self, step):
        """For a test that cannot hear of steps from a coordinator."""
        path = os.path.join(self.params["marks"], "applied")
        with open(f"{path}.{os.getpid()}", "w") as file:
            file.write(str(step))
        os.replace(file.name, path)

    def claim(self):
        """True for one engine of the whole job."""
        try:
            os.close(os.open(os.path.join(self.params["marks"], "claimed"), os.O_CREAT | os.O_EXCL))
            return True
        except FileExistsError:
            return False

    def fail(self):
        """In the middle of a step: after the first of its microbatches."""
        fault = self.params["fault"]
        if fault == "exit_0":
            os._exit(0)
        if fault == "segv":
            os.kill(os.getpid(), signal.SIGSEGV)
        if fault == "sleep":
            time.sleep(HANG_SECONDS)
        if fault == "sleep_with_gil":
            # PyDLL keeps the interpreter's lock during the call. usleep's argument has 32 bits.
            ctypes.PyDLL(None).usleep(ctypes.c_uint(3_600_000_000))
        if fault == "hoard":
            self.hoard = torch.ones(HOARD_BYTES, dtype=torch.uint8)


class CrashesAtStart(FaultTask):
    def model(self):
        os.kill(os.getpid(), signal.SIGSEGV)


class TooLarge(FaultTask):
    def model(self):
        return nn.Linear(2**22, 2**22)


class RaisesAtStart(FaultTask):
    def model(self):
        raise RuntimeError("there is no such model")
