"""Training speed of captioning, compared with PyTorch.

`scenes` is the model of configs/captioning_scenes.py with its trained encoder, `features` the model
of configs/captioning_flickr8k.py on features of VGG-19 that are computed in advance. Both
implementations have the same batches, the same loss and fused Adam. The unit is words per second.

The PyTorch model runs `nn.LSTMCell` with additive attention on keys that are projected once, in
eager mode and compiled; the faster one is the peer.
"""

import itertools
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.workloads import (
    ADAM,
    Batches,
    Benchmark,
    Workload,
    beside_torch,
    make_torch_training,
    make_training,
)
from configs import captioning_flickr8k, captioning_scenes

STEPS = 4  # batches of a round


class Size(NamedTuple):
    """Config of the model, and the length of all captions."""

    config: Any
    length: int


def sizes() -> dict[str, Size]:
    """Return the two benchmarks by name."""
    return {
        "scenes": Size(captioning_scenes.get_config(), 12),
        "features": Size(captioning_flickr8k.get_config(), 12),
    }


def batches(size: Size) -> Batches:
    """Sample random images or features and captions."""
    rng, config = np.random.default_rng(0), size.config
    encoder, count = config.model.encoder, config.batching.size
    images: Any
    if encoder.kind == "residual":
        shape = (STEPS, count, encoder.resolution, encoder.resolution, encoder.channels)
        images = rng.integers(0, 256, shape).astype(np.uint8)
    else:
        rows, columns = encoder.grid
        images = rng.random((STEPS, count, rows * columns, encoder.width), np.float32)
    captions = rng.integers(4, config.vocabulary_size, (STEPS, count, size.length))
    return [
        {"image": image, "caption": caption.astype(np.int32)}
        for image, caption in zip(images, captions, strict=True)
    ]


def train_ours(name: str) -> Workload:
    """Create our training."""
    from pathlib import Path

    from tasks.captioning.task import Captioning

    size = sizes()[name]
    config = size.config.copy_and_resolve_references()
    config.optimizer = {"method": "adam", **ADAM}
    task = Captioning(config, Path())
    return make_training(task, batches(size), config.cpu_devices)


def torch_encoder(encoder: Any):
    """Create `models.captioner.encoders` in PyTorch, channels first."""
    import torch
    from torch import nn
    from torch.nn import functional

    class ChannelNorm(nn.LayerNorm):
        def forward(self, x):
            return super().forward(x.movedim(1, -1)).movedim(-1, 1)

    class DownBlock(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.norms = nn.ModuleList([ChannelNorm(inputs), ChannelNorm(outputs)])
            self.first_conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            self.second_conv = nn.Conv2d(outputs, outputs, 3, padding=1)
            self.shortcut = nn.Conv2d(inputs, outputs, 1)

        def forward(self, x):
            h = self.first_conv(functional.relu(self.norms[0](x)))
            h = self.second_conv(functional.relu(self.norms[1](h)))
            return functional.avg_pool2d(h, 2) + self.shortcut(functional.avg_pool2d(x, 2))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            widths, patch = encoder.widths, encoder.patch
            self.stem = nn.Conv2d(encoder.channels, widths[0], patch, stride=patch)
            self.blocks = nn.Sequential(*[DownBlock(*pair) for pair in itertools.pairwise(widths)])
            self.last_conv = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
            self.norms = nn.ModuleList([ChannelNorm(widths[-1]), nn.LayerNorm(widths[-1])])
            side = encoder.resolution // (patch * 2 ** (len(widths) - 1))
            self.position = nn.Parameter(torch.randn(side * side, widths[-1]) * 0.1)

        def forward(self, images):
            x = self.blocks(self.stem((images.float() / 127.5 - 1.0).movedim(-1, 1)))
            x = x + self.last_conv(functional.relu(self.norms[0](x)))
            return self.norms[1](x.flatten(2).mT) + self.position

    return Encoder() if encoder.kind == "residual" else nn.Identity()


def torch_model(size: Size):
    """Create the caption generator in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)
    model, penalty = size.config.model, size.config.doubly_stochastic
    v, e, h, a = size.config.vocabulary_size, model.embedding, model.hidden, model.attention.width
    encoder = model.encoder
    d = encoder.widths[-1] if encoder.kind == "residual" else encoder.width

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch_encoder(encoder)
            self.embedding = nn.Embedding(v, e)
            self.initial = nn.Linear(d, 2 * h)
            self.keys = nn.Linear(d, a, bias=False)
            self.query = nn.Linear(h, a, bias=False)
            self.vector = nn.Parameter(torch.randn(a) * 0.1)
            self.gate = nn.Linear(h, 1)
            self.cell = nn.LSTMCell(e + d, h)
            self.readout_hidden = nn.Linear(h, e, bias=False)
            self.readout_context = nn.Linear(d, e, bias=False)
            self.output = nn.Linear(e, v, bias=False)
            self.dropout = nn.Dropout(model.dropout)

        def forward(self, image, caption):
            annotations = self.encoder(image)
            keys = self.keys(annotations)
            hidden, cell = torch.tanh(self.initial(annotations.mean(1))).chunk(2, -1)
            shifted = functional.pad(caption[:, :-1], (1, 0), value=1)
            inputs = self.dropout(self.embedding(shifted))
            states, contexts, weights = [], [], []
            for y in inputs.unbind(1):
                scores = torch.tanh(self.query(hidden)[:, None] + keys) @ self.vector
                weights.append(scores.softmax(-1))
                context = torch.bmm(weights[-1][:, None], annotations)[:, 0]
                contexts.append(torch.sigmoid(self.gate(hidden)) * context)
                hidden, cell = self.cell(torch.cat([y, contexts[-1]], -1), (hidden, cell))
                states.append(hidden)
            readout = self.readout_hidden(torch.stack(states, 1))
            readout = inputs + readout + self.readout_context(torch.stack(contexts, 1))
            logits = self.output(self.dropout(readout))
            loss = functional.cross_entropy(logits.flatten(0, 1), caption.flatten())
            totals = torch.stack(weights, 1).sum(1)
            return loss + penalty * ((1.0 - totals) ** 2).sum() / caption.numel()

    return Model()


def train_torch(name: str, compiled: bool) -> Workload:
    """Create the training in PyTorch."""
    size = sizes()[name]
    return make_torch_training(torch_model(size), batches(size), compiled)


def declare(quick: bool) -> list[Benchmark]:
    """Return a benchmark for each size."""
    del quick
    benchmarks = []
    for name, size in sizes().items():
        implementations = beside_torch(partial(train_ours, name), partial(train_torch, name))
        words = STEPS * size.config.batching.size * size.length
        benchmarks.append(Benchmark(f"captioning/{name}", words, "words", implementations))
    return benchmarks
