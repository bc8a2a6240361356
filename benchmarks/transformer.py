"""Training speed of a Transformer, compared with PyTorch.

`d256` is a small model in float32, `base` the model of configs/transformer_base_wmt14.py in its
dtype, bfloat16; PyTorch computes in bfloat16 by autocast. On a GPU, a batch of `base` has 1,024
sentences, about the 24,576 tokens per side of the config (the paper: about 25,000). On a CPU it has
20 sentences.

The models have the same sizes, dropout at the same positions, the same loss (without padding) and
Adam, fused in PyTorch. The sentences have 16 to 32 tokens. Ours trains on packed rows, as
`train.py` does, and on padded batches; `torch.nn.Transformer`, whose attention is
`scaled_dot_product_attention`, on padded batches, as is usual, eager and compiled, and compiled on
the packed rows. The throughput counts target tokens without padding.
"""

import math
from functools import partial
from typing import Any, NamedTuple

from benchmarks import sentences
from benchmarks.sentences import SMOOTHING, our_task, packed, real_tokens
from benchmarks.workloads import (
    Batches,
    Benchmark,
    Workload,
    make_torch_training,
    make_training,
)
from configs import transformer_base_wmt14
from training.xla_flags import has_nvidia_gpu

LENGTH = 32  # of the longest sentence
GPU_SENTENCES, CPU_SENTENCES = 1024, 20  # sentences of a batch of `base`


class Size(NamedTuple):
    """Shape of the batches and arguments of the model."""

    sentences: int  # of a padded batch
    row: int  # tokens of a packed row
    vocabulary: int
    model: dict[str, Any]  # further arguments of our model


def sizes(quick: bool) -> dict[str, Size]:
    """Return the sizes by name; `base` has larger batches on a machine with a GPU."""
    config = transformer_base_wmt14.get_config()
    base = config.model.to_dict()
    small = {"width": 256, "hidden": 1024, "heads": 4, "encoder_layers": 3, "decoder_layers": 3}
    count = GPU_SENTENCES if has_nvidia_gpu() else CPU_SENTENCES
    return {
        "d256": Size(64, 128, 8000, base | small | {"dtype": "float32"}),
        "base": Size(
            count // 2 if quick else count,
            config.packing.target_length,
            config.vocabulary.size,
            base,
        ),
    }


def padded(size: Size) -> Batches:
    """Generate the padded batches of one round."""
    return sentences.batches(size.sentences, LENGTH, size.vocabulary)


def batches(size: Size, pack: bool) -> Batches:
    """Generate the batches of one round, packed into rows or padded."""
    return packed(padded(size), size.row) if pack else padded(size)


def ours(size: Size, pack: bool) -> Workload:
    """Create the training of our Transformer."""
    return make_training(our_task(our_model(size)), batches(size, pack))


def our_model(size: Size) -> Any:
    """Return a function that creates our Transformer from a key."""
    from models import Transformer

    return partial(Transformer, vocabulary=size.vocabulary, **size.model)


def torch(size: Size, compiled: bool, pack: bool) -> Workload:
    """Create the training of `torch.nn.Transformer`."""
    import torch

    torch.manual_seed(0)
    return make_torch_training(torch_model(size), batches(size, pack), compiled)


def torch_model(size: Size) -> Any:
    """Return a module that maps padded or packed sentences to the loss."""
    import torch
    from torch import nn
    from torch.nn import functional

    width, heads, dropout = (size.model[name] for name in ("width", "heads", "dropout"))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(size.vocabulary, width)
            nn.init.normal_(self.table.weight, std=width**-0.5)
            self.transformer = nn.Transformer(
                width,
                heads,
                size.model["encoder_layers"],
                size.model["decoder_layers"],
                size.model["hidden"],
                dropout,
                layer_norm_eps=1e-6,
                batch_first=True,
            )
            # As printed: no norm after the last layer, and dropout on sub-layer outputs only.
            self.transformer.encoder.norm = self.transformer.decoder.norm = None
            for module in self.transformer.modules():
                if isinstance(module, nn.MultiheadAttention):
                    module.dropout = 0.0
                if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
                    module.dropout.p = 0.0
            self.dropout = nn.Dropout(dropout)
            angle = torch.arange(size.row)[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)
            table = torch.stack([angle.sin(), angle.cos()], -1).reshape(size.row, width)
            self.encodings: torch.Tensor
            self.register_buffer("encodings", table)
            for name, length in (("future", LENGTH), ("packed_future", size.row)):
                mask = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
                self.register_buffer(name, mask)

        def embed(self, tokens, positions):
            x = self.table(tokens) * math.sqrt(width) + self.encodings[positions]
            return self.dropout(x)

        def loss(self, states, target):
            return functional.cross_entropy(
                (states @ self.table.weight.T).float().flatten(0, 1),
                target.flatten(),
                ignore_index=0,
                label_smoothing=SMOOTHING,
            )

        def forward(self, source, target, **segments):
            half = size.model["dtype"] == "bfloat16"
            with torch.autocast(source.device.type, torch.bfloat16, enabled=half):
                previous = functional.pad(target[:, :-1], (1, 0), value=1)
                states = self.packed_states if segments else self.padded_states
                return self.loss(states(source, previous, **segments), target)

        def padded_states(self, source, previous):
            padding, positions = source == 0, torch.arange(LENGTH, device=source.device)
            return self.transformer(
                self.embed(source, positions),
                self.embed(previous, positions),
                tgt_mask=self.future,
                tgt_is_causal=True,
                src_key_padding_mask=padding,
                memory_key_padding_mask=padding,
            )

        def packed_states(
            self,
            source,
            previous,
            source_segments,
            source_positions,
            target_segments,
            target_positions,
        ):
            def other(queries, keys):
                mask = queries[:, :, None] != keys[:, None, :]
                return mask.repeat_interleave(heads, dim=0)

            return self.transformer(
                self.embed(source, source_positions),
                self.embed(previous.masked_fill(target_positions == 0, 1), target_positions),
                src_mask=other(source_segments, source_segments),
                tgt_mask=other(target_segments, target_segments) | self.packed_future,
                memory_mask=other(target_segments, source_segments),
            )

    return Model()


def declare(quick: bool) -> list[Benchmark]:
    """Return the benchmark of training for each size."""
    benchmarks = []
    for name, size in sizes(quick).items():
        implementations = {
            "ours": partial(ours, size, True),
            "ours padded": partial(ours, size, False),
            "torch eager": partial(torch, size, False, False),
            "torch compiled": partial(torch, size, True, False),
            "torch packed": partial(torch, size, True, True),
        }
        tokens = real_tokens(padded(size))
        benchmarks.append(Benchmark(f"transformer/{name}", tokens, "tokens", implementations))
    return benchmarks
