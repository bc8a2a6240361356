"""Training and decoding speed of RNNsearch, compared with PyTorch.

The benchmark runs at the size of configs/seq2seq_nmt.py and at a larger one that is dominated by
matrix products. Both implementations have the same padded batches of sentences of half to all of
the maximum length, the same dropout, the same loss without padding, and fused Adam. Training is
measured in target tokens per second without padding, decoding in generated tokens per second.

The PyTorch model runs `nn.GRU` on packed sequences, and `nn.GRUCell` with additive attention on
keys that are projected once. Training is measured in eager mode and compiled, and the faster one is
the peer; decoding is measured in eager mode only. Both implementations use all cores: PyTorch as
threads of an operation, ours as the CPU devices of the config.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from benchmarks import sentences
from benchmarks.sentences import SMOOTHING, STEPS, our_task, real_tokens
from benchmarks.workloads import (
    Batches,
    Benchmark,
    Program,
    Workload,
    beside_torch,
    make_torch_training,
    make_training,
    torch_device,
)
from configs import seq2seq_nmt

DROPOUT, BEAM = 0.2, 4


class Size(NamedTuple):
    """Number of CPU devices, shape of the batches and widths of the model."""

    cpu_devices: int
    batch: int
    length: int
    vocabulary: int
    embedding: int
    annotation: int
    hidden: int
    alignment: int
    maxout: int


SIZES = {
    "small": Size(seq2seq_nmt.get_config().cpu_devices, 80, 24, 128, 64, 256, 256, 128, 128),
    "large": Size(1, 64, 32, 8000, 256, 512, 512, 256, 256),
}


def batches(size: Size) -> Batches:
    """Generate the batches of one round."""
    return sentences.batches(size.batch, size.length, size.vocabulary)


def our_model(size: Size) -> Callable[..., Any]:
    """Return a function that creates our model from a key."""
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
        initialization="glorot",
    )


def train_ours(size: Size) -> Workload:
    """Create our training."""
    return make_training(our_task(our_model(size)), batches(size), size.cpu_devices)


def decode_ours(size: Size, width: int) -> Workload:
    """Create our decoding, in which every hypothesis has the maximum length."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from models.beam_search import beam_search
    from training import mesh

    mesh.set_cpu_device_count(size.cpu_devices)
    graphdef, params = nnx.split(our_model(size)(key=jax.random.key(1)))
    params = mesh.replicate(params, mesh.make_mesh(data=-1, fsdp=1, tensor=1))
    with mesh.evaluation_mesh(params) as shard:
        sources = [shard(batch["source"]) for batch in batches(size)]

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
            eos=-1,  # not a token, so no hypothesis ends early
        )[0]

    def run():
        for source in sources:
            decode(params, source).block_until_ready()

    def trace():
        return [Program(decode.trace(params, sources[0]).jaxpr, size.length)] * len(sources)

    return Workload(run, trace)


def torch_model(size: Size):
    """Create RNNsearch in PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.source_embedding = nn.Embedding(size.vocabulary, size.embedding)
            self.target_embedding = nn.Embedding(size.vocabulary, size.embedding)
            self.encoder = nn.GRU(
                size.embedding, size.annotation // 2, batch_first=True, bidirectional=True
            )
            self.initial = nn.Linear(size.annotation, size.hidden)
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
                self.dropout(self.source_embedding(source)),
                valid.sum(1).cpu(),
                batch_first=True,
                enforce_sorted=False,
            )
            outputs, last = self.encoder(packed)
            annotations, _ = pad_packed_sequence(
                outputs, batch_first=True, total_length=size.length
            )
            initial_state = torch.tanh(self.initial(torch.cat([last[0], last[1]], -1)))
            return annotations, self.keys(annotations), ~valid, initial_state

        def attend(self, state, annotations, keys, padding):
            hidden = torch.tanh(self.query(state)[:, None] + keys)
            weights = (hidden @ self.vector).masked_fill(padding, -torch.inf).softmax(-1)
            return torch.bmm(weights[:, None], annotations)[:, 0]

        def compute_readout(self, states, inputs, contexts):
            x = self.readout(torch.cat([states, inputs, contexts], -1))
            return self.dropout(x.unflatten(-1, (size.maxout, 2)).amax(-1))

        def forward(self, source, target):
            annotations, keys, padding, state = self.encode(source)
            shifted = functional.pad(target[:, :-1], (1, 0), value=1)
            inputs = self.dropout(self.target_embedding(shifted))
            states, contexts = [], []
            for x in inputs.unbind(1):
                states.append(state)
                contexts.append(self.attend(state, annotations, keys, padding))
                state = self.cell(torch.cat([x, contexts[-1]], -1), state)
            x = self.compute_readout(torch.stack(states, 1), inputs, torch.stack(contexts, 1))
            return functional.cross_entropy(
                self.output(x).flatten(0, 1),
                target.flatten(),
                ignore_index=0,
                label_smoothing=SMOOTHING,
            )

        def search(self, source, width):
            """Beam search without an end token; greedy decoding if the width is 1."""
            memory = self.encode(source)
            annotations, keys, padding, state = (x.repeat_interleave(width, 0) for x in memory)
            batch = len(source)
            last = source.new_ones(batch * width)
            scores = torch.full((batch, width), -torch.inf, device=source.device)
            scores[:, 0] = 0.0
            tokens = source.new_zeros(batch, width, 0)
            first_beam = torch.arange(batch, device=source.device)[:, None] * width
            for _ in range(size.length):
                x = self.target_embedding(last)
                context = self.attend(state, annotations, keys, padding)
                logits = self.output(self.compute_readout(state, x, context))
                state = self.cell(torch.cat([x, context], -1), state)
                total = scores[..., None] + logits.log_softmax(-1).view(batch, width, -1)
                scores, index = total.flatten(1).topk(width)
                parent, token = index // size.vocabulary, index % size.vocabulary
                tokens = tokens.gather(1, parent[..., None].expand(-1, -1, tokens.shape[-1]))
                tokens = torch.cat([tokens, token[..., None]], -1)
                state = state[(first_beam + parent).flatten()]
                last = token.flatten()
            return tokens

    return Model()


def train_torch(size: Size, compiled: bool) -> Workload:
    """Create the training in PyTorch."""
    return make_torch_training(torch_model(size), batches(size), compiled)


def decode_torch(size: Size, width: int) -> Workload:
    """Create the decoding in PyTorch."""
    import torch

    device = torch_device()
    model = torch_model(size).eval().to(device)
    sources = [
        torch.tensor(batch["source"], dtype=torch.long, device=device) for batch in batches(size)
    ]

    def run():
        with torch.inference_mode():
            for source in sources:
                model.search(source, width).cpu()

    return Workload(run)


def declare(quick: bool) -> list[Benchmark]:
    """Return the benchmarks of training, greedy decoding and beam search, for each size."""
    del quick
    benchmarks = []
    for name, size in SIZES.items():
        training = beside_torch(partial(train_ours, size), partial(train_torch, size))
        tokens = real_tokens(batches(size))
        benchmarks.append(Benchmark(f"seq2seq/{name}/training", tokens, "tokens", training))
        for part, width in (("greedy", 1), ("beam", BEAM)):
            decoding = {
                "ours": partial(decode_ours, size, width),
                "torch eager": partial(decode_torch, size, width),
            }
            tokens = STEPS * size.batch * size.length
            benchmarks.append(Benchmark(f"seq2seq/{name}/{part}", tokens, "tokens", decoding))
    return benchmarks
