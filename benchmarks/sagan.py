"""Training of the self-attention GAN, compared with PyTorch.

Two sizes: the widths of configs/sagan_digits.py, and the widths of configs/sagan_cifar10.py. Both
implementations train the same networks on the same images: spectral normalization with one power
iteration per use, hinge losses, an update of the discriminator and one of the generator with Adam
(fused in PyTorch), and a moving average of the generator's weights. PyTorch uses the channels-last
memory format, eager and compiled. The peer is the faster PyTorch variant. The unit is real images
per second.
"""

import itertools
import tempfile
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.workloads import (
    Batches,
    Benchmark,
    Workload,
    beside_torch,
    make_training,
    torch_device,
)

STEPS, CLASSES = 4, 10  # batches per round, image classes


class Size(NamedTuple):
    """Sizes of a batch and of the networks, at 32 x 32 with attention at 16 x 16."""

    batch_size: int
    channels: int  # of an image
    generator_width: int
    discriminator_width: int
    latent_size: int


SIZES = {"digits": Size(32, 1, 12, 8, 64), "wide": Size(16, 3, 64, 64, 128)}


def batches(size: Size) -> Batches:
    """Return the training batches of one round."""
    rng = np.random.default_rng(0)
    shape = (size.batch_size, 32, 32, size.channels)
    return [
        {
            "image": rng.integers(0, 256, shape, np.uint8),
            "label": rng.integers(0, CLASSES, size.batch_size, np.int32),
        }
        for _ in range(STEPS)
    ]


def train_ours(size: Size) -> Workload:
    """Create our training."""
    import tasks
    from configs import sagan_digits

    config = sagan_digits.get_config().unlock()
    config.batch, config.data.channels = size.batch_size, size.channels
    config.model.latent_size = size.latent_size
    config.model.width.generator = size.generator_width
    config.model.width.discriminator = size.discriminator_width
    config.augment.update(rotate=0.0, scale=0.0, shift=0.0, flip=False)
    task = tasks.build(config, tempfile.mkdtemp())
    return make_training(task, batches(size))


def torch_networks(size: Size) -> tuple[Any, Any]:
    """Build the same generator and discriminator in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.nn.utils.parametrizations import spectral_norm

    def conv(inputs, outputs, kernel=3, bias=True):
        layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
        return spectral_norm(layer)

    class ConditionalBatchNorm(nn.Module):
        def __init__(self, channels, classes=CLASSES):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(classes, channels))
            self.bias = nn.Parameter(torch.zeros(classes, channels))

        def forward(self, x, labels):
            x = functional.batch_norm(x, None, None, training=True)
            return x * self.gain[labels][..., None, None] + self.bias[labels][..., None, None]

    class SelfAttention(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.query = conv(channels, channels // 8, 1, bias=False)
            self.key = conv(channels, channels // 8, 1, bias=False)
            self.value = conv(channels, channels // 2, 1, bias=False)
            self.output = conv(channels // 2, channels, 1, bias=False)
            self.gate = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            query = self.query(x).flatten(2)
            key = functional.max_pool2d(self.key(x), 2).flatten(2)
            value = functional.max_pool2d(self.value(x), 2).flatten(2)
            weights = torch.bmm(query.transpose(1, 2), key).softmax(-1)
            contexts = torch.bmm(value, weights.transpose(1, 2)).unflatten(2, x.shape[2:])
            return x + self.gate * self.output(contexts)

    class UpBlock(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.norms = nn.ModuleList(
                [ConditionalBatchNorm(inputs), ConditionalBatchNorm(outputs)]
            )
            self.first_conv, self.second_conv = conv(inputs, outputs), conv(outputs, outputs)
            self.shortcut = conv(inputs, outputs, 1)

        def forward(self, x, labels):
            h = functional.interpolate(self.norms[0](x, labels).relu(), scale_factor=2)
            h = self.second_conv(self.norms[1](self.first_conv(h), labels).relu())
            return h + functional.interpolate(self.shortcut(x), scale_factor=2)

    class DownBlock(nn.Module):
        def __init__(self, inputs, outputs, position):
            super().__init__()
            self.position = position
            self.first_conv, self.second_conv = conv(inputs, outputs), conv(outputs, outputs)
            if position != "last":
                self.shortcut = conv(inputs, outputs, 1)

        def forward(self, x):
            h = self.second_conv(
                self.first_conv(x if self.position == "first" else x.relu()).relu()
            )
            if self.position == "last":
                return x + h
            return functional.avg_pool2d(h, 2) + self.shortcut(functional.avg_pool2d(x, 2))

    class Generator(nn.Module):
        def __init__(self, width):
            super().__init__()
            widths = [4 * width, 4 * width, 2 * width, width]
            self.dense = spectral_norm(nn.Linear(size.latent_size, 16 * widths[0]))
            self.blocks = nn.ModuleList([UpBlock(*pair) for pair in itertools.pairwise(widths)])
            self.attention, self.norm = SelfAttention(2 * width), nn.BatchNorm2d(width)
            self.output = conv(width, size.channels)

        def forward(self, latents, labels):
            x = self.dense(latents).unflatten(1, (-1, 4, 4))
            x = x.contiguous(memory_format=torch.channels_last)
            for n, block in enumerate(self.blocks):
                x = block(x, labels)
                if n == 1:
                    x = self.attention(x)
            return self.output(self.norm(x).relu()).tanh()

    class Discriminator(nn.Module):
        def __init__(self, width):
            super().__init__()
            widths = [size.channels, width, 2 * width, 4 * width, 4 * width]
            positions = ["first", "middle", "middle", "last"]
            self.blocks = nn.ModuleList(
                [
                    DownBlock(*pair, position)
                    for pair, position in zip(itertools.pairwise(widths), positions, strict=True)
                ]
            )
            self.attention = SelfAttention(width)
            self.output = spectral_norm(nn.Linear(widths[-1], 1))
            self.embedding = spectral_norm(nn.Embedding(CLASSES, widths[-1]))

        def forward(self, x, labels):
            for n, block in enumerate(self.blocks):
                x = block(x)
                if n == 0:
                    x = self.attention(x)
            features = x.relu().sum((2, 3))
            return self.output(features)[:, 0] + (features * self.embedding(labels)).sum(1)

    torch.manual_seed(0)
    networks = Generator(size.generator_width), Discriminator(size.discriminator_width)
    for parameter in itertools.chain(*(network.parameters() for network in networks)):
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return networks


def train_torch(size: Size, compiled: bool) -> Workload:
    """Create the training in PyTorch."""
    import torch

    device = torch_device()
    generator, discriminator = (network.to(device) for network in torch_networks(size))
    adam = partial(torch.optim.Adam, betas=(0.0, 0.9), eps=1e-8, fused=True)
    adam_g, adam_d = adam(generator.parameters(), 4e-4), adam(discriminator.parameters(), 1.2e-3)
    average = [p.detach().clone() for p in generator.parameters()]
    generate, score = generator, discriminator
    if compiled:
        generate, score = torch.compile(generator), torch.compile(discriminator)
    tensors = [
        (
            torch.tensor(batch["image"].transpose(0, 3, 1, 2), device=device),
            torch.tensor(batch["label"], dtype=torch.long, device=device),
        )
        for batch in batches(size)
    ]

    sample_latents = partial(torch.randn, size.batch_size, size.latent_size, device=device)

    def run():
        for pixels, labels in tensors:
            real = (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                fake = generate(sample_latents(), labels)
            scores = score(torch.cat([real, fake]), torch.cat([labels, labels]))
            real_scores, fake_scores = scores.chunk(2)
            loss = (1 - real_scores).relu().mean() + (1 + fake_scores).relu().mean()
            adam_d.zero_grad(set_to_none=True)
            loss.backward()
            adam_d.step()
            discriminator.requires_grad_(False)
            fake = generate(sample_latents(), labels)
            adam_g.zero_grad(set_to_none=True)
            (-score(fake, labels).mean()).backward()
            adam_g.step()
            discriminator.requires_grad_(True)
            torch._foreach_lerp_(average, [p.detach() for p in generator.parameters()], 0.002)
        loss.item()

    return Workload(run)


def declare(quick: bool) -> list[Benchmark]:
    """Return a benchmark for each size."""
    del quick
    return [
        Benchmark(
            f"sagan/{name}",
            STEPS * size.batch_size,
            "images",
            beside_torch(partial(train_ours, size), partial(train_torch, size)),
        )
        for name, size in SIZES.items()
    ]
