"""Trains one Transformer here and in PyTorch: `python -m benchmarks.transformer`.

Same sizes, same padded batches of sentences of 16 to 32 tokens, same places of dropout, same loss
(padding ignored), Adam with its fused form in both. What counts is real target tokens a second,
padding not included. PyTorch runs eager and compiled; the better of the two is the peer.
"""

import math
from collections.abc import Callable
from functools import partial

from benchmarks import timing
from benchmarks.sentences import (
    SMOOTHING,
    batches,
    our_task,
    real_tokens,
    train_torch,
)

ROWS, LENGTH, VOCABULARY, WIDTH, HIDDEN, HEADS, LAYERS = 64, 32, 8000, 256, 1024, 4, 3
DROPOUT = 0.1
SENTENCES = batches(ROWS, LENGTH, VOCABULARY)


def ours() -> Callable[[], None]:
    """Our Transformer."""
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
        dtype="float32",
        implementation="xla",
    )
    return timing.make_train_fn(our_task(create), SENTENCES)


def torch(compiled: bool) -> Callable[[], None]:
    """`torch.nn.Transformer` in the hands of somebody who knows it."""
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
            # As printed: no norm after the last layer, and dropout on sub-layer outputs alone.
            self.transformer.encoder.norm = self.transformer.decoder.norm = None
            for module in self.transformer.modules():
                if isinstance(module, nn.MultiheadAttention):
                    module.dropout = 0.0
                if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
                    module.dropout.p = 0.0
            self.dropout = nn.Dropout(DROPOUT)
            angle = torch.arange(LENGTH)[:, None] / 10_000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
            table = torch.stack([angle.sin(), angle.cos()], -1).reshape(LENGTH, WIDTH)
            self.register_buffer("positions", table)
            future = nn.Transformer.generate_square_subsequent_mask(LENGTH)
            self.register_buffer("future", future)

        def embed(self, tokens):
            return self.dropout(self.table(tokens) * math.sqrt(WIDTH) + self.positions)

        def forward(self, source, target):
            padding = source == 0
            states = self.transformer(
                self.embed(source),
                self.embed(functional.pad(target[:, :-1], (1, 0), value=1)),
                tgt_mask=self.future,
                tgt_is_causal=True,
                src_key_padding_mask=padding,
                memory_key_padding_mask=padding,
            )
            return functional.cross_entropy(
                (states @ self.table.weight.T).flatten(0, 1),
                target.flatten(),
                ignore_index=0,
                label_smoothing=SMOOTHING,
            )

    torch.manual_seed(0)
    return train_torch(Model(), SENTENCES, compiled)


def main() -> None:
    """Prints a table and the line of JSON."""
    forms: dict[str, timing.Implementation] = {
        "ours": ours,
        "torch eager": partial(torch, False),
        "torch compiled": partial(torch, True),
    }
    timing.compare("transformer", real_tokens(SENTENCES), forms)


if __name__ == "__main__":
    main()
