"""A small GPT that learns to write like the King James Bible, one character at a time."""

import math
import subprocess

import numpy
import torch
from torch import nn
from torch.nn import functional

import lockstep

class Block(nn.Module):
    """Pre-norm attention and a feed-forward layer; x is (batch, time, width)."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x, mask):
        batch, time, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads) + mask
        x = x + self.join((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, time, width))
        return x + self.feed(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, vocabulary, block, width, layers, heads):
        super().__init__()
        self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(block, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.register_buffer("mask", torch.full((block, block), -math.inf).triu(1), persistent=False)
        for matrix in (p for p in self.parameters() if p.dim() == 2):
            nn.init.normal_(matrix, std=0.02)

    def forward(self, tokens):
        time = tokens.shape[1]
        x = self.token(tokens) + self.place.weight[:time]
        for block in self.blocks:
            x = block(x, self.mask[:time, :time])
        return self.head(self.norm(x))


class CharGPT(lockstep.Task):
    def __init__(self):
        text = subprocess.run(["bible", "-f", "Gen1:1-Rev22:21"], check=True, capture_output=True).stdout
        self.characters, codes = numpy.unique(numpy.frombuffer(text, dtype=numpy.uint8), return_inverse=True)
        self.train, self.held_out = torch.from_numpy(codes.astype(numpy.uint8)).split([len(codes) * 9 // 10, -(-len(codes) // 10)])

    def model(self):
        p = self.params
        return GPT(len(self.characters), p["block"], p["width"], p["layers"], p["heads"])

    def dataset(self):
        return self.windows(self.train)

    def windows(self, text):
        """The text cut into windows of `block` characters and the one that follows: uint8, (windows, block + 1)."""
        return text.unfold(0, self.params["block"] + 1, self.params["block"])

    def loss(self, model, batch):
        batch = batch.long()
        return functional.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    def optimizer(self, model):
        return torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)

    def lr(self, step):
        """A linear warm-up, then a cosine down to a tenth."""
        p = self.params
        done = min(1.0, step / p["decay_steps"])
        return p["lr"] * min(1.0, (step + 1) / p["warmup"]) * (0.55 + 0.45 * math.cos(math.pi * done))

    def evaluate(self, model):
        """Both in nats a character; the model on 256 windows spread over the held-out text."""
        windows = self.windows(self.held_out)
        batch = windows[:: len(windows) // 256][:256].to(self.device)
        held_out = sum(self.loss(model, part).item() * len(part) for part in batch.split(32)) / len(batch)
        return {"held_out_loss": held_out, "bigram_loss": self.bigram_loss()}

    def bigram_loss(self):
        """The held-out loss of a bigram model of the training text, with one added to every count."""
        size, train, test = len(self.characters), self.train.long(), self.held_out.long()
        counts = torch.bincount(train[:-1] * size + train[1:], minlength=size * size).view(size, size).double() + 1
        return -(counts / counts.sum(1, keepdim=True)).log()[test[:-1], test[1:]].mean().item()

    def finish(self, model):
        tokens = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        for _ in range(300):
            logits = model(tokens[:, -self.params["block"] :])[0, -1]
            tokens = torch.cat([tokens, torch.multinomial((logits / 0.8).softmax(-1), 1)[None]], dim=1)
        print("sample:", self.characters[tokens[0].cpu().numpy()].tobytes().decode("latin-1"))
