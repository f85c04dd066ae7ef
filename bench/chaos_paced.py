"""A job whose time goes where an accelerator's would: each microbatch takes `microbatch_ms` without using the processor."""

import time

import torch
from torch import nn

import lockstep


class Paced(lockstep.Task):
    def model(self):
        return nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 16))

    def dataset(self):
        return torch.utils.data.TensorDataset(torch.randn(9600, 64), torch.randint(16, (9600,)))

    def optimizer(self, model):
        return torch.optim.AdamW(model.parameters(), lr=0.001)

    def loss(self, model, batch):
        time.sleep(self.params["microbatch_ms"] / 1000)
        return nn.functional.cross_entropy(model(batch[0]), batch[1])
