"""A small convolutional network with batch norm and dropout on Fashion-MNIST (Debian package dataset-fashion-mnist)."""

import gzip
import math
from pathlib import Path

import numpy
import torch
from torch import nn
from torch.nn import functional

import lockstep

FOLDER = Path("/usr/share/datasets/fashion-mnist")


def read_idx(name):
    """An array of bytes from an IDX file: 2 zero bytes, type 8, dimensions, each size as a big-endian int32, data."""
    content = gzip.decompress((FOLDER / f"{name}-ubyte.gz").read_bytes())
    dimensions = content[3]
    shape = numpy.frombuffer(content, dtype=">i4", count=dimensions, offset=4)
    return torch.from_numpy(numpy.frombuffer(content, dtype=numpy.uint8, offset=4 + 4 * dimensions).reshape(shape).copy())


def pixels(images):
    """Bytes (n, 28, 28) to floats (n, 1, 28, 28), about zero."""
    return (images.float() / 255 - 0.286).unsqueeze(1) / 0.353


class Clothes:
    def __init__(self):
        self.images, self.labels = read_idx("train-images-idx3"), read_idx("train-labels-idx1")

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], int(self.labels[index])


class FashionMnist(lockstep.Task):
    def model(self):
        width = self.params["width"]
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(self.params["dropout"]),
            nn.Linear(2 * width * 49, 64), nn.ReLU(), nn.Linear(64, 10),
        )

    def dataset(self):
        return Clothes()

    def loss(self, model, batch):
        images, labels = batch
        # A sum and its weight: exact also when the last batch of an epoch is a smaller one.
        return functional.cross_entropy(model(pixels(images)), labels, reduction="sum"), len(labels)

    def optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=self.params["lr"], momentum=0.9, weight_decay=5e-4)

    def lr(self, step):
        done = min(1.0, step / self.params["decay_steps"])
        return self.params["lr"] * min(1.0, (step + 1) / 20) * (0.51 + 0.49 * math.cos(math.pi * done))

    def evaluate(self, model):
        images, labels = read_idx("t10k-images-idx3"), read_idx("t10k-labels-idx1")
        guesses = torch.cat([model(pixels(part.to(self.device))).argmax(1).cpu() for part in images.split(500)])
        return {"test_accuracy": (guesses == labels).double().mean().item()}
