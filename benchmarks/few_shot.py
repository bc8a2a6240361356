"""Training speed of SNAIL on few-shot classification, compared with PyTorch.

`small` is the model of configs/snail_omniglot_small.py, `omniglot` the model of
configs/snail_omniglot.py at the paper's size, with its batch of 32 episodes on a GPU and 4 episodes
on a CPU. Both implementations have the same random images, the largest number of shots of the
config, the same loss and Adam, fused in PyTorch. Images are not distorted. The throughput counts
episodes.

The PyTorch model has the same embedding network, in the channels-last memory format, and the same
blocks, with `scaled_dot_product_attention`; it is trained in eager mode and compiled.
"""

from functools import partial
from typing import Any

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
from configs import snail_omniglot, snail_omniglot_small
from training.xla_flags import has_nvidia_gpu

STEPS = 4  # batches of a round
CPU_EPISODES, QUICK_EPISODES = 4, 2  # of a batch of `omniglot` on a CPU, and of quick batches


def make_configs(quick: bool) -> dict[str, Any]:
    """Return the configs by name; `omniglot` has larger batches on a machine with a GPU."""
    small, omniglot = snail_omniglot_small.get_config(), snail_omniglot.get_config()
    if not has_nvidia_gpu():
        omniglot.batch = CPU_EPISODES
    for config in (small, omniglot):
        config.data.distortion = 0.0
        config.optimizer = {"method": "adam", **ADAM}
        if quick:
            config.batch = QUICK_EPISODES
    return {"small": small, "omniglot": omniglot}


def batches(config: Any) -> Batches:
    """Sample random images and labels, the fields of `tasks.few_shot.episodes.Episodes`."""
    rng, data = np.random.default_rng(0), config.data
    support = data.ways * max(data.shots)
    count, image = support + data.queries, (data.image_size, data.image_size, 1)
    labels = lambda n: rng.integers(data.ways, size=(config.batch, n), dtype=np.int32)
    return [
        {
            "images": rng.integers(256, size=(config.batch, count, *image), dtype=np.uint8),
            "labels": labels(support),
            "targets": labels(data.queries),
        }
        for _ in range(STEPS)
    ]


def train_ours(config: Any) -> Workload:
    """Create our training."""
    from tasks.few_shot import build_abstract
    from tasks.few_shot.episodes import Episodes

    episodes = [Episodes(**batch) for batch in batches(config)]
    return make_training(build_abstract(config, ""), episodes, config.cpu_devices)


def torch_blocks(blocks: str, width: int, length: int) -> tuple[Any, int]:
    """Create `models.snail.network.Backbone` in PyTorch; also return its output width.

    Args:
        blocks: blocks in the paper's notation.
        width: input channels.
        length: maximum sequence length in steps.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    from models.snail.network import parse_blocks

    class DenseBlock(nn.Module):
        def __init__(self, width, filters, dilation):
            super().__init__()
            self.dilation, self.width = dilation, width + filters
            self.kernel = nn.Linear(width, 4 * filters, bias=False)
            self.bias = nn.Parameter(torch.zeros(2 * filters))

        def forward(self, x):
            past, present = self.kernel(x).chunk(2, -1)
            past = functional.pad(past, (0, 0, self.dilation, 0))[:, : x.shape[1]]
            filters, gates = (past + present + self.bias).chunk(2, -1)
            return torch.cat([x, filters.tanh() * gates.sigmoid()], -1)

    class AttentionBlock(nn.Module):
        def __init__(self, width, key_width, value_width):
            super().__init__()
            self.widths, self.width = (key_width, key_width, value_width), width + value_width
            self.projection = nn.Linear(width, sum(self.widths))

        def forward(self, x):
            # With an axis of one head, which the fused kernels require.
            q, k, v = (y[:, None] for y in self.projection(x).split(self.widths, -1))
            contexts = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return torch.cat([x, contexts[:, 0]], -1)

    layers: list[Any] = []
    for kind, sizes in parse_blocks(blocks):
        if kind == "Att":
            layers.append(AttentionBlock(width, *sizes))
            width = layers[-1].width
            continue
        for level in range((length - 1).bit_length()):
            layers.append(DenseBlock(width, sizes[0], 2**level))
            width = layers[-1].width
    return nn.Sequential(*layers), width


def torch_model(config: Any) -> Any:
    """Return a module that maps episodes to the loss: `models.snail.FewShotClassifier`."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)
    data, sizes = config.data, config.model
    ways, label_scale = data.ways, sizes.label_scale  # the forward pass reads no config

    class ConvBlock(nn.Module):
        def __init__(self, inputs):
            super().__init__()
            self.conv = nn.Conv2d(inputs, sizes.filters, 3, padding=1, bias=False)
            self.norm = nn.LayerNorm(sizes.filters, 1e-6)

        def forward(self, x):
            x = self.norm(self.conv(x).movedim(1, -1)).movedim(-1, 1)
            return functional.max_pool2d(x.relu(), 2)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            convs: Any = nn.Sequential(*[ConvBlock(n) for n in (1, *3 * [sizes.filters])])
            self.convs = convs.to(memory_format=torch.channels_last)
            self.embedding = nn.Linear(
                (data.image_size // 16) ** 2 * sizes.filters, sizes.embedding
            )
            length = ways * max(data.shots) + 1
            self.blocks, width = torch_blocks(sizes.blocks, sizes.embedding + ways, length)
            self.output = nn.Linear(width, ways)

        def forward(self, images, labels, targets):
            queries, dtype = targets.shape[1], self.output.weight.dtype
            x = self.convs((images.flatten(0, 1).to(dtype) / 255).movedim(-1, 1))
            x = self.embedding(x.movedim(1, -1).flatten(1)).unflatten(0, images.shape[:2])
            support, query = x.split([labels.shape[1], queries], 1)
            shared = support[:, None].expand(-1, queries, -1, -1)
            x = torch.cat([shared, query[:, :, None]], 2)
            variance, mean = torch.var_mean(x, 2, correction=0, keepdim=True)
            x = (x - mean) / (variance + 1e-6).sqrt()
            one_hot = label_scale * functional.one_hot(labels, ways).to(dtype)
            one_hot = functional.pad(one_hot, (0, 0, 0, 1))[:, None].expand(-1, queries, -1, -1)
            x = self.blocks(torch.cat([x, one_hot], -1).flatten(0, 1))
            return functional.cross_entropy(self.output(x[:, -1]), targets.flatten())

    return Model()


def train_torch(config: Any, compiled: bool) -> Workload:
    """Create the training in PyTorch."""
    return make_torch_training(torch_model(config), batches(config), compiled)


def declare(quick: bool) -> list[Benchmark]:
    """Return the benchmark of training for each size."""
    return [
        Benchmark(
            f"few_shot/{name}",
            STEPS * config.batch,
            "episodes",
            beside_torch(partial(train_ours, config), partial(train_torch, config)),
        )
        for name, config in make_configs(quick).items()
    ]
