"""A small GPT behind a convolution with batch norm and dropout: generators, buffers and several kinds of kernels. Its text is made up."""

import math

import torch
from torch import nn
from torch.nn import functional

import lockstep

VOCABULARY = 64
CHARACTERS = 100_000


class Block(nn.Module):
    """Pre-norm causal attention and a feed-forward layer; x is (batch, time, width)."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout))

    def forward(self, x, mask):
        batch, time, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads) + mask
        x = x + self.join((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, time, width))
        return x + self.feed(self.norm2(x))


class Model(nn.Module):
    def __init__(self, block, width, layers, heads, dropout):
        super().__init__()
        self.token, self.place = nn.Embedding(VOCABULARY, width), nn.Embedding(block, width)
        self.mix, self.norm = nn.Conv1d(width, width, 3), nn.BatchNorm1d(width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.head = nn.Linear(width, VOCABULARY)
        self.register_buffer("mask", torch.full((block, block), -math.inf).triu(1), persistent=False)

    def forward(self, tokens):
        x = self.token(tokens) + self.place.weight
        # Two steps of padding on the left: no character sees one behind it. No GELU here: that of PyTorch 1.13 passes on what happens to be
        # in memory, on the CPU, when the gradient that it is given is transposed.
        mixed = self.norm(self.mix(functional.pad(x.transpose(1, 2), (2, 0))))
        x = x + functional.relu(mixed).transpose(1, 2)
        for block in self.blocks:
            x = block(x, self.mask)
        return self.head(x)


class Check(lockstep.Task):
    def model(self):
        return Model(**self.params)

    def dataset(self):
        """Windows of a random walk over the characters: uint8, (windows, block + 1)."""
        steps = torch.randint(0, 3, (CHARACTERS,), generator=torch.Generator().manual_seed(1))
        return (steps.cumsum(0) % VOCABULARY).to(torch.uint8).unfold(0, self.params["block"] + 1, 7)

    def loss(self, model, batch):
        batch = batch.long()
        return functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    def optimizer(self, model):
        return torch.optim.AdamW(model.parameters(), lr=1e-3)
