"""Training speed of a Transformer, compared with PyTorch.

The models have the same sizes, dropout at the same positions, the same loss (without padding) and
Adam, fused in PyTorch. The sentences have 16 to 32 tokens. Ours trains on packed rows, as
`train.py` does, and on padded batches; `torch.nn.Transformer` on padded batches, as is usual, eager
and compiled, and compiled on the packed rows. The throughput counts target tokens without padding.
"""

import math
from functools import partial

from benchmarks.sentences import SMOOTHING, batches, our_task, packed, real_tokens
from benchmarks.workloads import Benchmark, Workload, make_torch_training, make_training

BATCH, LENGTH, VOCABULARY, WIDTH, HIDDEN, HEADS, LAYERS = 64, 32, 8000, 256, 1024, 4, 3
ROW = 128  # tokens of a packed row
DROPOUT = 0.1
PADDED = batches(BATCH, LENGTH, VOCABULARY)


def ours(pack: bool) -> Workload:
    """Create the training of our Transformer."""
    from models import Transformer

    create = partial(
        Transformer,
        vocabulary=VOCABULARY,
        width=WIDTH,
        hidden=HIDDEN,
        heads=HEADS,
        key_width=WIDTH // HEADS,
        value_width=WIDTH // HEADS,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        dropout=DROPOUT,
        norm="post",
        positions="sinusoidal",
        max_length=0,
        dtype="float32",
        implementation="xla",
        remat="none",
    )
    return make_training(our_task(create), packed(PADDED, ROW) if pack else PADDED)


def torch(compiled: bool, pack: bool) -> Workload:
    """Create the training of `torch.nn.Transformer`."""
    import torch

    torch.manual_seed(0)
    return make_torch_training(torch_model(), packed(PADDED, ROW) if pack else PADDED, compiled)


def torch_model():
    """Return a module that maps padded or packed sentences to the loss."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(VOCABULARY, WIDTH)
            nn.init.normal_(self.table.weight, std=WIDTH**-0.5)
            self.transformer = nn.Transformer(
                WIDTH, HEADS, LAYERS, LAYERS, HIDDEN, DROPOUT, batch_first=True
            )
            # As printed: no norm after the last layer, and dropout on sub-layer outputs only.
            self.transformer.encoder.norm = self.transformer.decoder.norm = None
            for module in self.transformer.modules():
                if isinstance(module, nn.MultiheadAttention):
                    module.dropout = 0.0
                if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
                    module.dropout.p = 0.0
            self.dropout = nn.Dropout(DROPOUT)
            angle = torch.arange(ROW)[:, None] / 10_000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
            table = torch.stack([angle.sin(), angle.cos()], -1).reshape(ROW, WIDTH)
            self.encodings: torch.Tensor
            self.register_buffer("encodings", table)
            for name, length in (("future", LENGTH), ("packed_future", ROW)):
                mask = torch.triu(torch.ones(length, length, dtype=torch.bool), 1)
                self.register_buffer(name, mask)

        def embed(self, tokens, positions):
            x = self.table(tokens) * math.sqrt(WIDTH) + self.encodings[positions]
            return self.dropout(x)

        def loss(self, states, target):
            return functional.cross_entropy(
                (states @ self.table.weight.T).flatten(0, 1),
                target.flatten(),
                ignore_index=0,
                label_smoothing=SMOOTHING,
            )

        def forward(self, source, target, **segments):
            previous = functional.pad(target[:, :-1], (1, 0), value=1)
            if segments:
                return self.loss(self.packed_states(source, previous, **segments), target)
            padding, positions = source == 0, torch.arange(LENGTH, device=source.device)
            states = self.transformer(
                self.embed(source, positions),
                self.embed(previous, positions),
                tgt_mask=self.future,
                tgt_is_causal=True,
                src_key_padding_mask=padding,
                memory_key_padding_mask=padding,
            )
            return self.loss(states, target)

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
                return mask.repeat_interleave(HEADS, dim=0)

            return self.transformer(
                self.embed(source, source_positions),
                self.embed(previous.masked_fill(target_positions == 0, 1), target_positions),
                src_mask=other(source_segments, source_segments),
                tgt_mask=other(target_segments, target_segments) | self.packed_future,
                memory_mask=other(target_segments, source_segments),
            )

    return Model()


def declare(quick: bool) -> list[Benchmark]:
    """Return the benchmark of training."""
    del quick
    implementations = {
        "ours": partial(ours, True),
        "ours padded": partial(ours, False),
        "torch eager": partial(torch, False, False),
        "torch compiled": partial(torch, True, False),
        "torch packed": partial(torch, True, True),
    }
    return [Benchmark("transformer", real_tokens(PADDED), "tokens", implementations)]
