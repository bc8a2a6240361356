"""Translation: sequence pairs, a model that reads one and writes the other, and its metrics."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array
from matplotlib.figure import Figure

from models import EncoderDecoder, Luong, RNNsearch, Transformer
from models.beam_search import beam_search
from tasks.base import Supervised
from tasks.plotting import attention_heads
from tasks.translation import metrics
from tasks.translation.cross_entropy import linear_cross_entropy
from tasks.translation.data import corpora
from tasks.translation.data.bucketing import (
    BucketedBatches,
    TokenisedPairs,
    bucket_shapes,
    evaluation_batches,
    rows_of,
    tokenise,
)
from tasks.translation.data.pairs import Pairs, TextPairs
from tasks.translation.data.vocabulary import BOS, EOS, PAD, Vocabulary, of_kind
from training import checkpoints, hosts, mesh, optimizer
from training.choices import choose
from training.errors import UserError, did_you_mean, section
from training.prefetch import prefetch
from training.state import TrainState

MODELS: dict[str, Callable[..., EncoderDecoder]] = {
    "transformer": Transformer,
    "rnnsearch": RNNsearch,
    "luong": Luong,
}


def build(config: Any, workdir: str) -> "Translation":
    """Opens the corpus, learns or loads the vocabulary, and shapes the model."""
    task = build_abstract(config, workdir)
    task.open()
    return task


def build_abstract(config: Any, workdir: str) -> "Translation":
    """Shapes the model alone, whose vocabulary must only be as large as the config says."""
    return Translation(config, Path(workdir))


class Translation(Supervised):
    """A sequence model between two languages; see `tasks.base.Task`.

    The vocabulary is learnt from the training side once and kept in the run's folder, as are the
    token numbers of the sentences.
    """

    unit = "tokens"
    draws = False  # whether it can train a model that draws what it attends to

    def __init__(self, config: Any, workdir: Path):
        super().__init__(optimizer.build(**config.optimizer), config.train.accumulate)
        self.config = config
        known = (*metrics.OF_TEXT, "perplexity", "truncated")
        for name in config.metrics:
            if name not in known:
                raise UserError(f"There is no measure '{name}'." + did_you_mean(name, known))
        model = choose(
            MODELS,
            config.architecture,
            key="architecture",
            section="model",
            options={"vocabulary", "key", *config.model},
        )
        self.workdir, self.cache = workdir, workdir / "tokens"
        self.longest = bucket_shapes(config.batching.buckets)[-1]
        _, options = of_kind(**config.vocabulary)
        # Byte pairs are as many as they are asked to be: that is known without the corpus.
        self.pieces = options["size"] if "size" in options else len(self.vocabulary)
        self.create: Callable[..., EncoderDecoder] = partial(
            model, vocabulary=self.pieces, **config.model
        )
        self.graphdef, draws = self._shape_model()
        if draws != self.draws:
            raise UserError(
                f"model.attention.alignment='hard' goes with "
                "--config.task=translation.hard_attention, and no other alignment does: "
                f"the task is '{config.task}'"
            )

    def open(self) -> None:
        """Makes sure of the data: fails now or never."""
        assert len(self.vocabulary) == self.pieces

    @cached_property
    def corpus(self) -> Mapping[str, Pairs]:
        """The pairs by split, opened when first asked for: to translate takes none."""
        return corpora.load(**self.config.data)

    @cached_property
    def splits(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self.corpus if name.startswith("test")))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Learnt once and never again: the weights beside it belong to it."""
        kind, options = of_kind(**self.config.vocabulary)
        path = self.workdir / "vocabulary.model"
        if path.exists() or any((self.workdir / checkpoints.FOLDER).glob("[0-9]*")):
            return kind.load(path)
        sentences = (sentence for pair in self.corpus["train"] for sentence in pair)
        return kind.train(sentences, path, **options)

    def _shape_model(self) -> tuple[nnx.GraphDef, bool]:
        """The model without its weights, and whether it draws what it attends to."""
        with section("model"):
            model = nnx.eval_shape(lambda: self.create(key=jax.random.key(0)))
            return nnx.graphdef(model), model.draws

    def describe(self) -> dict[str, str]:
        """The corpus, what of it is too long to train on, the pieces, and the kind of BLEU."""
        data = self.config.data
        sizes = ", ".join(f"{len(pairs):,} {name}" for name, pairs in self.corpus.items())
        _, dropped = self._training_pairs
        said = {
            "data": f"{data.corpus} {data.source}-{data.target}: {sizes}",
            "too long": f"{dropped:,} of train, not trained on",
            "vocabulary": f"{self.pieces:,} pieces",
        }
        return said | ({"bleu": metrics.signature()} if "bleu" in self.config.metrics else {})

    # Training.

    def init_params(self, key: Array) -> nnx.State:
        return nnx.state(self.create(key=key))

    def loss(self, params, batch, key):
        """Label-smoothed cross-entropy in nats, summed over target tokens."""
        model, states, _ = self._teach(params, batch, key)
        loss, tokens = self._cross_entropy(model, states, batch, self.config.label_smoothing)
        return loss, tokens, {}

    def _teach(self, params, batch, key):
        """The model, its teacher-forced states under the softmax, and what it looked at."""
        model = nnx.merge(self.graphdef, params)
        key_source, key_target = jax.random.split(key)
        memory, _ = model.encode(batch["source"], key_source)
        return model, *model.decode(batch["target"], memory, key_target)

    def batches(self, split: str, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        pairs = self._training_pairs[0] if split == "train" else self._evaluation_pairs(split)[0]
        if split != "train":
            return (batch for batch, _ in evaluation_batches(pairs, **self.config.batching))
        batches = BucketedBatches(pairs, seed=self.config.seed, **self.config.batching)
        return prefetch(batches, start_step)

    def largest_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """That of the longest sentences, for which attention needs most."""
        batching = self.config.batching
        rows = rows_of(self.longest, batching.tokens, batching.rows_multiple)
        return {
            side: jax.ShapeDtypeStruct((rows, length), jnp.int32)
            for side, length in zip(("source", "target"), self.longest, strict=True)
        }

    @cached_property
    def _training_pairs(self) -> tuple[TokenisedPairs, int]:
        return tokenise(self.corpus["train"], self.vocabulary, self.cache).within(self.longest)

    def _evaluation_pairs(self, split: str) -> tuple[TokenisedPairs, int]:
        if split not in self.corpus:
            raise UserError(f"There is no split '{split}', only {', '.join(self.corpus)}.")
        return tokenise(self.corpus[split], self.vocabulary, self.cache).truncated(self.longest)

    @staticmethod
    def _cross_entropy(model, states, batch, smoothing):
        valid = batch["target"] != PAD
        table = model.output_table.astype(states.dtype)
        loss = linear_cross_entropy(states, table, batch["target"], valid, smoothing)
        return loss, valid.sum().astype(jnp.float32)

    # Evaluation.

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """Computes the configured metrics of a split.

        These are `perplexity` (per piece), and `truncated`: how many pairs were cut to the longest
        bucket. The first measure of a test split is given again for its sources of certain lengths
        in pieces, as `bleu_9-16`, between the config's `lengths`.
        """
        width = self.config.decode.dev_width if split == "dev" else self.config.decode.width
        return self._measures(state, split, width)

    def _measures(self, state, split, width, key=None):
        pairs, truncated = self._evaluation_pairs(split)
        found, nll, tokens = self._decode(state.params, pairs, width, key)
        references = self.corpus[split].references
        hypotheses = self.vocabulary.decode(found)
        of_model = {
            "perplexity": math.exp(min(nll / tokens, 700.0)),
            "truncated": float(truncated),
        }
        language = self.config.data.target
        of_text = {
            name: metrics.OF_TEXT[name](hypotheses, references, language)
            for name in self.config.metrics
            if name not in of_model
        }
        measured = of_text | of_model
        by_length = self._by_length(pairs, hypotheses, references) if split in self.splits else {}
        return {name: measured[name] for name in self.config.metrics} | by_length

    def _by_length(self, pairs, hypotheses, references):
        """The first measure of the pairs whose source is longer than one edge, up to the next."""
        name, edges = self.config.metrics[0], self.config.lengths
        if name not in metrics.OF_TEXT:
            return {}
        by_length, lengths = {}, pairs.source.lengths
        for shortest, longest in zip((0, *edges), edges, strict=False):
            if len(rows := np.flatnonzero((lengths > shortest) & (lengths <= longest))):
                by_length[f"{name}_{shortest + 1}-{longest}"] = metrics.OF_TEXT[name](
                    [hypotheses[row] for row in rows],
                    [references[row] for row in rows],
                    self.config.data.target,
                )
        return by_length

    def translate(self, state: TrainState, sentences: Sequence[str]) -> tuple[list[str], int]:
        """Translates text by beam search.

        Returns:
            The translations in order (that of nothing is nothing), and how many sentences were cut
            to the longest bucket.
        """
        # A whole batch may be thousands of rows, and what is not a sentence would be padding.
        budget = min(self.config.batching.tokens, len(sentences) * max(self.longest))
        return self._translate(state.params, sentences, self.config.decode.width, tokens=budget)

    def _translate(self, params, sentences, width, **batching):
        said = [sentence for sentence in sentences if sentence.strip()]
        pairs, cut = tokenise(TextPairs(said, [""] * len(said)), self.vocabulary).truncated(
            self.longest
        )
        found = iter(self.vocabulary.decode(self._decode(params, pairs, width, **batching)[0]))
        return [next(found) if sentence.strip() else "" for sentence in sentences], cut

    def _decode(self, params, pairs, width, key=None, **batching):
        """Tokens of every source in order, and the reference's negative log-likelihood, size."""
        found: list[Any] = [None] * len(pairs)
        nll = tokens = 0.0

        def decode(item):
            batch, rows = item
            drawn = None if key is None else jax.random.fold_in(key, int(rows[0]))
            with mesh.split_rows(params) as split:
                return rows, *jax.device_get(self._decode_batch(params, split(batch), width, drawn))

        batches = evaluation_batches(pairs, **{**self.config.batching, **batching})
        for rows, output, batch_nll, batch_tokens in hosts.map_over_hosts(decode, batches):
            nll, tokens = nll + batch_nll, tokens + batch_tokens
            for row, ids in zip(rows, output, strict=False):
                found[row] = ids
        return found, nll, tokens

    @partial(jax.jit, static_argnames=("self", "width"))
    def _decode_batch(self, params, batch, width, key=None):
        model = nnx.merge(self.graphdef, params)
        memory, _ = model.encode(batch["source"])
        if key is not None:  # which only a model that draws gets
            memory = model.sampling(memory, key)
        states, _ = model.decode(batch["target"], memory)
        nll, tokens = self._cross_entropy(model, states, batch, smoothing=0.0)
        source_length = batch["source"].shape[1]
        lengths = jnp.sum(batch["source"] != PAD, axis=-1)
        extra = self.config.decode.extra
        best, _ = beam_search(
            lambda last, cache, position: model.decode_step(last, cache, memory, position),
            model.init_cache(memory, width, source_length + extra),
            jnp.where(lengths > 0, lengths + extra, 1),
            length=source_length + extra,
            width=width,
            length_penalty=self.config.decode.length_penalty,
            pad=PAD,
            bos=BOS,
            eos=EOS,
        )
        return best[:, 0], nll, tokens

    # What a person would rather look at.

    def figures(self, state: TrainState) -> dict[str, Figure]:
        """Heat maps of every head's weights for the config's example sentence."""
        sentence = self.config.example
        ids = tokenise(
            TextPairs([sentence], self._translate(state.params, [sentence], width=1)[0]),
            self.vocabulary,
        )
        source, target = (
            side.ids[s : s + n][None].astype(np.int32)
            for side in ids.sides
            for s, n in [(side.starts[0], side.lengths[0])]
        )
        weights = jax.device_get(self._attention(state.params, source, target))
        source_pieces = self.vocabulary.pieces(source[0])
        target_pieces = self.vocabulary.pieces(target[0])
        shifted = ["<s>", *target_pieces[:-1]]
        axes = {
            "encoder": (source_pieces, source_pieces),
            "decoder": (shifted, target_pieces),
            "cross": (source_pieces, target_pieces),
        }
        return {
            f"attention_{name}": attention_heads(
                [np.asarray(layer[0]) for layer in layers],
                *axes[name],
                title=f"{self.config.name}: {name} attention, one row per layer",
            )
            for name, layers in weights._asdict().items()
            if layers
        }

    @partial(jax.jit, static_argnames="self")
    def _attention(self, params, source, target):
        return nnx.merge(self.graphdef, params).attention(source, target)

    def samples(self, state: TrainState) -> str:
        """A few test sentences with their translations and references."""
        pairs = self.corpus[self.splits[0]][:4]
        sources = [source for source, _ in pairs]
        found = self._translate(state.params, sources, self.config.decode.width)[0]
        lines = [
            f"  source     {source}\n  model      {hypothesis}\n  reference  {reference}"
            for (source, reference), hypothesis in zip(pairs, found, strict=True)
        ]
        return "\n\n".join(lines)
