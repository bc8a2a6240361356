"""Trains and decodes one RNNsearch here and in PyTorch: `python -m benchmarks.seq2seq`.

Twice: at the size of configs/seq2seq_nmt.py, and at one whose time goes to matrix products. Same
padded batches of sentences of half to all of the length, same places of dropout, same loss (padding
ignored), Adam with its fused form in both. What counts is real target tokens a second,
padding not included; in decoding, tokens written. PyTorch runs `nn.GRU` over packed sentences and
`nn.GRUCell` with additive attention on keys projected once, eager and compiled (training alone: a
search that ends when it ends is not one graph); the better of the two is the peer. Each has all
cores: PyTorch as threads of an operation, we as the devices that our config makes of a CPU.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from benchmarks import sentences, timing
from benchmarks.sentences import SMOOTHING, STEPS, our_task, real_tokens
from configs import seq2seq_nmt

DROPOUT, BEAM = 0.2, 4
CPU_DEVICES = seq2seq_nmt.get_config().cpu_devices


class Size(NamedTuple):
    """Of the batches and of the model."""

    rows: int
    length: int
    vocabulary: int
    embedding: int
    annotation: int
    hidden: int
    alignment: int
    maxout: int


SIZES = {
    "small": Size(80, 24, 128, 64, 256, 256, 128, 128),
    "large": Size(64, 32, 8000, 256, 512, 512, 256, 256),
}


def batches(size: Size) -> sentences.Batches:
    """What both train on."""
    return sentences.batches(size.rows, size.length, size.vocabulary)


def our_model(size: Size) -> Callable[..., Any]:
    """Makes our RNNsearch, given a key."""
    from models import RNNsearch

    return partial(
        RNNsearch,
        vocabulary=size.vocabulary,
        embedding=size.embedding,
        hidden=size.hidden,
        maxout=size.maxout,
        encoder={"kind": "gru", "layers": 1, "direction": "both", "width": size.annotation},
        attention={
            "score": "additive",
            "alignment": "soft",
            "width": size.alignment,
            "max_source_length": size.length,
            "half_width": 1,
            "expectation_probability": 0.0,
            "entropy_weight": 0.0,
        },
        dropout=DROPOUT,
        dtype="float32",
    )


def train_ours(size: Size) -> Callable[[], None]:
    """Our training step."""
    return timing.make_train_fn(our_task(our_model(size)), batches(size), CPU_DEVICES)


def decode_ours(size: Size, width: int) -> Callable[[], None]:
    """The search that evaluates a run; every sentence is written to its longest."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from models.beam_search import beam_search
    from training import mesh

    mesh.set_cpu_device_count(CPU_DEVICES)
    graphdef, params = nnx.split(our_model(size)(key=jax.random.key(1)))
    params = mesh.replicate(params, mesh.make_mesh(data=-1, fsdp=1, tensor=1))
    with mesh.evaluation_mesh(params) as split:
        placed = [split(batch["source"]) for batch in batches(size)]

    @jax.jit
    def decode(params, source):
        model = nnx.merge(graphdef, params)
        memory, _ = model.encode(source)
        return beam_search(
            lambda last, cache, position: model.decode_step(last, cache, memory, position),
            model.init_cache(memory, width, size.length),
            jnp.full(len(source), size.length),
            length=size.length,
            width=width,
            length_penalty=0.0,
            pad=0,
            bos=1,
            eos=-1,  # never: all hypotheses go to the end
        )[0]

    def run():
        for source in placed:
            decode(params, source).block_until_ready()

    return run


def torch_model(size: Size):
    """An RNNsearch in the hands of somebody who knows PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.source_table = nn.Embedding(size.vocabulary, size.embedding)
            self.target_table = nn.Embedding(size.vocabulary, size.embedding)
            self.encoder = nn.GRU(
                size.embedding, size.annotation // 2, batch_first=True, bidirectional=True
            )
            self.start = nn.Linear(size.annotation, size.hidden)
            self.keys = nn.Linear(size.annotation, size.alignment, bias=False)
            self.query = nn.Linear(size.hidden, size.alignment, bias=False)
            self.vector = nn.Parameter(torch.randn(size.alignment) * 0.1)
            self.cell = nn.GRUCell(size.embedding + size.annotation, size.hidden)
            self.readout = nn.Linear(
                size.embedding + size.annotation + size.hidden, 2 * size.maxout
            )
            self.output = nn.Linear(size.maxout, size.vocabulary, bias=False)
            self.dropout = nn.Dropout(DROPOUT)

        def encode(self, source):
            valid = source != 0
            packed = pack_padded_sequence(
                self.dropout(self.source_table(source)),
                valid.sum(1).cpu(),
                batch_first=True,
                enforce_sorted=False,
            )
            outputs, last = self.encoder(packed)
            annotations, _ = pad_packed_sequence(
                outputs, batch_first=True, total_length=size.length
            )
            start = torch.tanh(self.start(torch.cat([last[0], last[1]], -1)))
            return annotations, self.keys(annotations), ~valid, start

        def attend(self, state, annotations, keys, padding):
            hidden = torch.tanh(self.query(state)[:, None] + keys)
            weights = (hidden @ self.vector).masked_fill(padding, -torch.inf).softmax(-1)
            return torch.bmm(weights[:, None], annotations)[:, 0]

        def read_out(self, states, inputs, contexts):
            x = self.readout(torch.cat([states, inputs, contexts], -1))
            return self.dropout(x.unflatten(-1, (size.maxout, 2)).amax(-1))

        def forward(self, source, target):
            annotations, keys, padding, state = self.encode(source)
            shifted = functional.pad(target[:, :-1], (1, 0), value=1)
            inputs = self.dropout(self.target_table(shifted))
            states, contexts = [], []
            for x in inputs.unbind(1):
                states.append(state)
                contexts.append(self.attend(state, annotations, keys, padding))
                state = self.cell(torch.cat([x, contexts[-1]], -1), state)
            x = self.read_out(torch.stack(states, 1), inputs, torch.stack(contexts, 1))
            return functional.cross_entropy(
                self.output(x).flatten(0, 1),
                target.flatten(),
                ignore_index=0,
                label_smoothing=SMOOTHING,
            )

        def search(self, source, width):
            """Beam search without an end of sentence; greedy at a width of one."""
            memory = self.encode(source)
            annotations, keys, padding, state = (x.repeat_interleave(width, 0) for x in memory)
            rows = len(source)
            last = source.new_ones(rows * width)
            scores = torch.full((rows, width), -torch.inf, device=source.device)
            scores[:, 0] = 0.0
            written = source.new_zeros(rows, width, 0)
            first = torch.arange(rows, device=source.device)[:, None] * width
            for _ in range(size.length):
                x = self.target_table(last)
                context = self.attend(state, annotations, keys, padding)
                logits = self.output(self.read_out(state, x, context))
                state = self.cell(torch.cat([x, context], -1), state)
                total = scores[..., None] + logits.log_softmax(-1).view(rows, width, -1)
                scores, index = total.flatten(1).topk(width)
                parent, token = index // size.vocabulary, index % size.vocabulary
                written = written.gather(1, parent[..., None].expand(-1, -1, written.shape[-1]))
                written = torch.cat([written, token[..., None]], -1)
                state = state[(first + parent).flatten()]
                last = token.flatten()
            return written

    return Model()


def train_torch(size: Size, compiled: bool) -> Callable[[], None]:
    """Its training step."""
    return sentences.train_torch(torch_model(size), batches(size), compiled)


def decode_torch(size: Size, width: int) -> Callable[[], None]:
    """Its search."""
    import torch

    device = timing.torch_device()
    model = torch_model(size).eval().to(device)
    sources = (batch["source"] for batch in batches(size))
    placed = [torch.tensor(source, dtype=torch.long, device=device) for source in sources]

    def run():
        with torch.inference_mode():
            for source in placed:
                model.search(source, width).cpu()

    return run


def main() -> None:
    """Prints a table and a line of JSON for each part and size; the last is that of training."""
    for name, size in SIZES.items():
        written = STEPS * size.rows * size.length
        for part, width in (("beam", BEAM), ("greedy", 1)):
            ours, theirs = (partial(form, size, width) for form in (decode_ours, decode_torch))
            timing.compare(f"seq2seq {name} {part}", written, {"ours": ours, "torch eager": theirs})
        forms: dict[str, timing.Implementation] = {
            "ours": partial(train_ours, size),
            "torch eager": partial(train_torch, size, False),
            "torch compiled": partial(train_torch, size, True),
        }
        timing.compare(f"seq2seq {name} training", real_tokens(batches(size)), forms)


if __name__ == "__main__":
    main()
