"""A task that takes the engine's pipe and memory into its own hands: user code may do so, and no daemon may suffer from it.

params:
    plan    path of a JSON list of acts; each engine takes the first that no other has taken:
            {"when": "model" | "loss" | "evaluate", "how": "write" | "bytes" | "flood" | "exit" | "close" | "cut" | "hang", "hex": "..."}
    marks   folder where it is noted which were taken
"""

import json
import os
import time

import torch

import lockstep

PIPE, MEMORY = 4, (5, 6, 7)
# Longer than it lives.
HANG_SECONDS = 3600


class Hostile(lockstep.Task):
    act = None

    def model(self):
        self.act = self.take()
        self.reached("model")
        return torch.nn.Linear(1, 1)

    def dataset(self):
        return torch.utils.data.TensorDataset(torch.ones(16, 1), torch.ones(16, 1))

    def loss(self, model, batch):
        self.reached("loss")
        return torch.nn.functional.mse_loss(model(batch[0]), batch[1])

    def optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=0.1)

    def evaluate(self, model):
        self.reached("evaluate")
        return {"one": 1.0}

    def take(self):
        with open(self.params["plan"]) as file:
            acts = json.load(file)
        for number, act in enumerate(acts):
            try:
                os.close(os.open(os.path.join(self.params["marks"], f"taken-{number}"), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                return act
            except FileExistsError:
                continue
        return None

    def reached(self, when):
        if self.act is not None and self.act["when"] == when:
            act, self.act = self.act, None
            getattr(self, act["how"])(bytes.fromhex(act["hex"]))

    def write(self, data):
        while data:
            data = data[os.write(PIPE, data):]

    def bytes(self, data):
        for at in range(len(data)):
            os.write(PIPE, data[at: at + 1])

    def flood(self, data):
        while True:
            self.write(data)

    def exit(self, data):
        self.write(data)
        os._exit(0)

    def close(self, data):
        self.write(data)
        os.close(PIPE)
        time.sleep(HANG_SECONDS)

    def cut(self, data):
        for memory in MEMORY:
            try:
                os.ftruncate(memory, 0)
            except OSError:
                pass
        self.write(data)

    def hang(self, data):
        self.write(data)
        time.sleep(HANG_SECONDS)
