"""Updates both networks of one GAN here and in PyTorch: `python -m benchmarks.sagan`.

Twice: at the size of configs/sagan_digits.py, and as wide as configs/sagan_cifar10.py. Same images,
same networks with attention, spectral normalisation by one power iteration at every use, hinge
losses, an update of the discriminator and then one of the generator with Adam (fused there), and an
average of the generator's weights. PyTorch runs in its channels-last layout, eager and compiled, of
which the better is the peer. What counts is real images a second.
"""

import itertools
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from benchmarks import timing

STEPS, ROUNDS, CLASSES = 4, 5, 10


class Size(NamedTuple):
    """Of the networks and of a batch, at 32 x 32 with attention at 16 x 16."""

    rows: int
    channels: int
    generator: int
    discriminator: int
    latent: int


SIZES = {"digits": Size(32, 1, 12, 8, 64), "wide": Size(16, 3, 64, 64, 128)}


def batches(size: Size) -> list[dict[str, np.ndarray]]:
    """What both train on."""
    rng = np.random.default_rng(0)
    shape = (size.rows, 32, 32, size.channels)
    return [
        {
            "image": rng.integers(0, 256, shape, np.uint8),
            "label": rng.integers(0, CLASSES, size.rows, np.int32),
        }
        for _ in range(STEPS)
    ]


def ours(size: Size) -> Callable[[], None]:
    """The task's own step, jitted as the loop does it."""
    import tasks
    from configs import sagan_digits

    config = sagan_digits.get_config().unlock()
    config.batch, config.data.channels = size.rows, size.channels
    config.model.latent = size.latent
    config.model.width = {"generator": size.generator, "discriminator": size.discriminator}
    config.augment.update(rotate=0.0, scale=0.0, shift=0.0, flip=False)
    task = tasks.build(config, tempfile.mkdtemp())
    return timing.make_train_fn(task, batches(size))


def torch_networks(size: Size):
    """The same two networks in the hands of somebody who knows PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.nn.utils.parametrizations import spectral_norm

    def conv(inputs, outputs, kernel=3, bias=True):
        layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
        return spectral_norm(layer)

    class Norm(nn.Module):
        def __init__(self, channels, classes=CLASSES):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(classes, channels))
            self.bias = nn.Parameter(torch.zeros(classes, channels))

        def forward(self, x, labels):
            x = functional.batch_norm(x, None, None, training=True)
            return x * self.gain[labels][..., None, None] + self.bias[labels][..., None, None]

    class Attention(nn.Module):
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

    class Up(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.norms = nn.ModuleList([Norm(inputs), Norm(outputs)])
            self.first, self.second = conv(inputs, outputs), conv(outputs, outputs)
            self.shortcut = conv(inputs, outputs, 1)

        def forward(self, x, labels):
            h = functional.interpolate(self.norms[0](x, labels).relu(), scale_factor=2)
            h = self.second(self.norms[1](self.first(h), labels).relu())
            return h + functional.interpolate(self.shortcut(x), scale_factor=2)

    class Down(nn.Module):
        def __init__(self, inputs, outputs, place):
            super().__init__()
            self.place = place
            self.first, self.second = conv(inputs, outputs), conv(outputs, outputs)
            if place != "last":
                self.shortcut = conv(inputs, outputs, 1)

        def forward(self, x):
            h = self.second(self.first(x if self.place == "first" else x.relu()).relu())
            if self.place == "last":
                return x + h
            return functional.avg_pool2d(h, 2) + self.shortcut(functional.avg_pool2d(x, 2))

    class Generator(nn.Module):
        def __init__(self, width):
            super().__init__()
            widths = [4 * width, 4 * width, 2 * width, width]
            self.entry = spectral_norm(nn.Linear(size.latent, 16 * widths[0]))
            self.blocks = nn.ModuleList([Up(*pair) for pair in itertools.pairwise(widths)])
            self.attention, self.norm = Attention(2 * width), nn.BatchNorm2d(width)
            self.output = conv(width, size.channels)

        def forward(self, noise, labels):
            x = self.entry(noise).unflatten(1, (-1, 4, 4))
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
            places = ["first", "between", "between", "last"]
            self.blocks = nn.ModuleList(
                [
                    Down(*pair, place)
                    for pair, place in zip(itertools.pairwise(widths), places, strict=True)
                ]
            )
            self.attention = Attention(width)
            self.output = spectral_norm(nn.Linear(widths[-1], 1))
            self.embedding = spectral_norm(nn.Embedding(CLASSES, widths[-1]))

        def forward(self, x, labels):
            for n, block in enumerate(self.blocks):
                x = block(x)
                if n == 0:
                    x = self.attention(x)
            seen = x.relu().sum((2, 3))
            return self.output(seen)[:, 0] + (seen * self.embedding(labels)).sum(1)

    torch.manual_seed(0)
    networks = Generator(size.generator), Discriminator(size.discriminator)
    for parameter in itertools.chain(*(network.parameters() for network in networks)):
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return networks


def torch(size: Size, compiled: bool) -> Callable[[], None]:
    """Its training step."""
    import torch

    device = timing.torch_device()
    generator, discriminator = (network.to(device) for network in torch_networks(size))
    adam = partial(torch.optim.Adam, betas=(0.0, 0.9), eps=1e-8, fused=True)
    adam_g, adam_d = adam(generator.parameters(), 4e-4), adam(discriminator.parameters(), 1.2e-3)
    average = [p.detach().clone() for p in generator.parameters()]
    draw, judge = generator, discriminator
    if compiled:
        draw, judge = torch.compile(generator), torch.compile(discriminator)
    placed = [
        (
            torch.tensor(batch["image"].transpose(0, 3, 1, 2), device=device),
            torch.tensor(batch["label"], dtype=torch.long, device=device),
        )
        for batch in batches(size)
    ]

    latent = partial(torch.randn, size.rows, size.latent, device=device)

    def run():
        for pixels, labels in placed:
            real = (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                fake = draw(latent(), labels)
            scores = judge(torch.cat([real, fake]), torch.cat([labels, labels]))
            of_real, of_fake = scores.chunk(2)
            loss = (1 - of_real).relu().mean() + (1 + of_fake).relu().mean()
            adam_d.zero_grad(set_to_none=True)
            loss.backward()
            adam_d.step()
            discriminator.requires_grad_(False)
            fake = draw(latent(), labels)
            adam_g.zero_grad(set_to_none=True)
            (-judge(fake, labels).mean()).backward()
            adam_g.step()
            discriminator.requires_grad_(True)
            torch._foreach_lerp_(average, [p.detach() for p in generator.parameters()], 0.002)
        loss.item()

    return run


def main() -> None:
    """Prints a table and a line of JSON for each size; the last is that of the wide networks."""
    for name in sys.argv[1:] or SIZES:
        size = SIZES[name]
        forms: dict[str, timing.Implementation] = {
            "ours": partial(ours, size),
            "torch eager": partial(torch, size, False),
            "torch compiled": partial(torch, size, True),
        }
        images = STEPS * size.rows
        timing.compare(f"sagan {name}", images, forms, unit="images/s", rounds=ROUNDS)


if __name__ == "__main__":
    main()
