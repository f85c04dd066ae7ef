"""What bench:train trains, under Lockstep and under DistributedDataParallel: a plain network on data that the task makes itself.

params:
    width, layers   of the hidden layers; there are about layers * width * width parameters
    samples         length of the data set
"""

import torch
from torch import nn

import lockstep

INPUTS, CLASSES = 256, 16


class Dense(lockstep.Task):
    def model(self):
        width = self.params["width"]
        layers = [nn.Linear(INPUTS, width), nn.ReLU()]
        for _ in range(self.params["layers"]):
            layers += [nn.Linear(width, width), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(width, CLASSES))

    def dataset(self):
        inputs = torch.randn(self.params["samples"], INPUTS)
        classes = (inputs @ torch.randn(INPUTS, CLASSES)).argmax(dim=1)
        return torch.utils.data.TensorDataset(inputs, classes)

    def optimizer(self, model):
        return torch.optim.AdamW(model.parameters(), lr=0.0001)

    def loss(self, model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])
