"""Sequence-to-sequence tasks: a corpus of sentence pairs, an encoder-decoder and text metrics."""

import math
from collections.abc import Callable, Iterator, Sequence
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
from models.encoder_decoder import Segments
from tasks.attention_maps import AttentionMap
from tasks.base import Supervised, check_kernel
from tasks.cross_entropy import linear_cross_entropy
from tasks.hard_attention import check_alignment
from tasks.subsets import fixed_sample
from tasks.translation import metrics
from tasks.translation.data import corpora
from tasks.translation.data.bucketing import (
    BucketedBatches,
    bucket_batch_size,
    bucket_shapes,
    evaluation_batches,
    pad,
)
from tasks.translation.data.packing import PackedBatches, check_packing
from tasks.translation.data.pairs import Splits, TextPairs
from tasks.translation.data.tokenized import Lengths, TokenizedPairs, tokenize
from tasks.translation.data.vocabulary import Vocabulary, select_vocabulary
from tasks.translation.figures import attention_figures, sentence_maps
from tasks.vocabulary import BOS, EOS, PAD, is_trained
from training import hosts, mesh, optimizer
from training.errors import UserError, config_section
from training.prefetch import prefetch
from training.registry import lookup
from training.state import TrainState

VOCABULARY = "vocabulary.model"  # file in the run directory

MODELS: dict[str, Callable[..., EncoderDecoder]] = {
    "transformer": Transformer,
    "rnnsearch": RNNsearch,
    "luong": Luong,
}


def build(config: Any, workdir: str) -> "Translation":
    """Open the corpus, train or load the vocabulary, and define the model."""
    task = build_abstract(config, workdir)
    task.check_data()
    return task


def build_abstract(config: Any, workdir: str) -> "Translation":
    """Define the model, without opening the corpus if the config gives the vocabulary size."""
    return Translation(config, Path(workdir))


class Translation(Supervised):
    """Encoder-decoder trained on sentence pairs; see `tasks.base.Task`.

    The vocabulary is trained once on both sides of the training split and stored in the run
    directory, as are the token ids and the packing plan. A model that supports packing trains on
    packed rows if `config.packing` is set; other models, decoding and evaluation use buckets.
    """

    unit = "tokens"
    samples_attention = False  # whether the task trains models that sample alignments

    def __init__(self, config: Any, workdir: Path):
        super().__init__(optimizer.build(**config.optimizer), config.train.accumulate)
        self.config = config
        metrics.check_names(config.metrics, others=("perplexity", "truncated"))
        model = lookup(
            MODELS,
            config.architecture,
            key="architecture",
            section="model",
            options={"vocabulary", "key", *config.model},
        )
        self.workdir, self.cache = workdir, workdir / "tokens"
        self.longest = bucket_shapes(config.batching.buckets)[-1]
        _, options = select_vocabulary(**config.vocabulary)
        # The size of a subword vocabulary is configured, so the corpus is not needed for it.
        self.vocabulary_size = options["size"] if "size" in options else len(self.vocabulary)
        self.create: Callable[..., EncoderDecoder] = partial(
            model, vocabulary=self.vocabulary_size, **config.model
        )
        check_kernel(config.model)
        with config_section("model"):
            abstract = nnx.eval_shape(lambda: self.create(key=jax.random.key(0)))
        self.graphdef = nnx.graphdef(abstract)
        check_alignment(
            abstract.samples_attention, self.samples_attention, config.task, "translation"
        )
        check_packing(dict(config.packing), abstract.supports_packing, config.architecture)

    def check_data(self) -> None:
        """Load the vocabulary and check the metrics, to report faulty data before training."""
        if not is_trained(self.workdir / VOCABULARY):
            self._check_metrics()
        if len(self.vocabulary) != self.vocabulary_size:
            raise UserError(
                f"{self.workdir / VOCABULARY} does not have vocabulary.size={self.vocabulary_size} "
                "tokens: restore the file of this run."
            )

    def _check_metrics(self) -> None:
        """Check that the metrics are defined, and that the one in `train.best` is not constant."""
        target = self.config.data.target
        metrics.check(self.config.metrics, target)
        split, _, name = self.config.train.best.partition("/")
        if split == "dev" and name in metrics.TEXT_METRICS:
            metrics.check_varies(name, self.corpus["dev"].references, target)

    @cached_property
    def corpus(self) -> Splits:
        """Sentence pairs by split, opened at the first access: `translate` does not need them."""
        return corpora.load(**self.config.data, cache=self.cache)

    @cached_property
    def splits(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in self.corpus if name.startswith("test")))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Vocabulary of the run directory, trained if neither its file nor a checkpoint exists."""
        kind, options = select_vocabulary(**self.config.vocabulary)
        path = self.workdir / VOCABULARY
        if is_trained(path):
            return kind.load(path)
        sentences = (sentence for pair in self.corpus["train"] for sentence in pair)
        return kind.train(sentences, path, **options)

    def data_fingerprint(self) -> dict[str, str]:
        """Return the numbers of training and dev pairs, and digests of their text."""
        return {split: self.corpus[split].summary for split in ("train", "dev")}

    def describe(self) -> dict[str, str]:
        """Summarize the corpus, the pairs left out of training, the vocabulary and the batches."""
        data = self.config.data
        rows = self.corpus.describe(f"{data.corpus} {data.source}-{data.target}")
        _, dropped = self._training_pairs
        if len(empty := self._tokenized("train").empty()):
            lines = ", ".join(str(i + 1) for i in empty[:3])
            rows["empty"] = f"{len(empty):,} training pairs left out (lines {lines})"
        rows |= {
            "too long": f"{dropped - len(empty):,} training pairs left out",
            "vocabulary": f"{self.vocabulary_size:,} tokens",
        }
        if self.config.packing:
            packed = self._packed_batches
            rows["packing"] = (
                f"{packed.rows:,} rows of {' + '.join(map(str, self._row))} tokens, "
                f"{packed.fill_rate:.1%} filled"
            )
        return rows | (
            {"bleu": metrics.signature(data.target)} if "bleu" in self.config.metrics else {}
        )

    # Training.

    def init_params(self, key: Array) -> nnx.State:
        return nnx.state(self.create(key=key))

    def loss(self, params, batch, key):
        """Label-smoothed cross-entropy in nats, summed over target tokens."""
        model, states, _ = self._teacher_force(params, batch, key)
        loss, tokens = self._cross_entropy(model, states, batch, self.config.label_smoothing)
        return loss, tokens, {}

    def _teacher_force(self, params, batch, key):
        """Return the model, the inputs of its output layer, and the decoder's attention."""
        model = nnx.merge(self.graphdef, params)
        key_source, key_target = jax.random.split(key)
        source, target = (self._segments(batch, side) for side in ("source", "target"))
        memory, _ = model.encode(batch["source"], key_source, *source)
        return model, *model.decode(batch["target"], memory, key_target, *target)

    @staticmethod
    def _segments(batch, side):
        """Return the segments of packed rows in a tuple, which is empty for bucketed batches."""
        if f"{side}_segments" not in batch:
            return ()
        return (Segments(batch[f"{side}_segments"], batch[f"{side}_positions"]),)

    def batches(self, split: str, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        batching = self.config.batching
        if split != "train":
            pairs, _ = self._evaluation_pairs(split)
            return (batch for batch, _ in evaluation_batches(pairs, **batching))
        if self.config.packing:
            return prefetch(self._packed_batches, start_step)
        pairs, _ = self._training_pairs
        return prefetch(BucketedBatches(pairs, seed=self.config.seed, **batching), start_step)

    def largest_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return the shapes of a packed batch, or of a batch of the longest sentences."""
        if self.config.packing:
            size, lengths = self.config.packing.rows, self._row
        else:
            batching = self.config.batching
            size = bucket_batch_size(self.longest, batching.tokens, batching.batch_size_multiple)
            lengths = self.longest
        kinds = ("", "_segments", "_positions") if self.config.packing else ("",)
        return {
            f"{side}{kind}": jax.ShapeDtypeStruct((size, length), jnp.int32)
            for side, length in zip(("source", "target"), lengths, strict=True)
            for kind in kinds
        }

    @property
    def _row(self) -> Lengths:
        packing = self.config.packing
        return packing.source_length, packing.target_length

    @cached_property
    def _packed_batches(self) -> PackedBatches:
        pairs, _ = self._training_pairs
        return PackedBatches(pairs, self._row, self.config.packing.rows, self.config.seed)

    @cached_property
    def _training_pairs(self) -> tuple[TokenizedPairs, int]:
        limit = self._row if self.config.packing else self.longest
        return self._tokenized("train").within(limit)

    def _evaluation_pairs(self, split: str) -> tuple[TokenizedPairs, int]:
        if split not in self.corpus:
            raise UserError(f"There is no split '{split}', only {', '.join(self.corpus)}.")
        return self._tokenized(split).truncated(self.longest)

    def _tokenized(self, split: str) -> TokenizedPairs:
        return tokenize(self.corpus[split], self.vocabulary, self.cache)

    @staticmethod
    def _cross_entropy(model, states, batch, smoothing):
        valid = batch["target"] != PAD
        table = model.output_embedding.astype(states.dtype)
        loss = linear_cross_entropy(states, table, batch["target"], valid, smoothing)
        return loss, valid.sum().astype(jnp.float32)

    # Evaluation.

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """Compute the configured metrics of a split.

        `perplexity` is per token; `truncated` counts the pairs cut to the longest bucket. On test
        splits the first metric is also computed by source length in tokens, as `bleu_9-16`, for
        the intervals between the edges `config.lengths`.
        """
        width = self.config.decode.dev_width if split == "dev" else self.config.decode.width
        return self.generation_metrics(state, split, width)

    def generation_metrics(self, state, split, width, key=None):
        """Compute the metrics of a split; with a key, models with hard attention sample."""
        metrics.check(self.config.metrics, self.config.data.target)  # before decoding
        pairs, truncated = self._evaluation_pairs(split)
        outputs, nll, tokens = self._decode(state.params, pairs, width, key)
        references = [
            [self.vocabulary.normalize(text) for text in several]
            for several in self.corpus[split].references
        ]
        hypotheses = self.vocabulary.decode(outputs)
        values = {
            "perplexity": math.exp(min(nll / tokens, 700.0)),
            "truncated": float(truncated),
        }
        for name in self.config.metrics:
            if name not in values:
                values[name] = metrics.TEXT_METRICS[name](
                    hypotheses, references, self.config.data.target
                )
        by_length = self._by_length(pairs, hypotheses, references) if split in self.splits else {}
        return {name: values[name] for name in self.config.metrics} | by_length

    def _by_length(self, pairs, hypotheses, references):
        """Compute the first metric for each interval of source lengths."""
        name, edges = self.config.metrics[0], self.config.lengths
        if name not in metrics.TEXT_METRICS:
            return {}
        by_length, lengths = {}, pairs.source.lengths
        for shortest, longest in zip((0, *edges), edges, strict=False):
            if len(chosen := np.flatnonzero((lengths > shortest) & (lengths <= longest))):
                by_length[f"{name}_{shortest + 1}-{longest}"] = metrics.TEXT_METRICS[name](
                    [hypotheses[i] for i in chosen],
                    [references[i] for i in chosen],
                    self.config.data.target,
                )
        return by_length

    def translate(self, state: TrainState, sentences: Sequence[str]) -> tuple[list[str], int]:
        """Translate sentences by beam search.

        Returns:
            The translations in order (an empty string for an empty sentence), and how many
            sentences were truncated to the longest bucket.
        """
        # Limit the batch size to the number of sentences.
        budget = min(self.config.batching.tokens, len(sentences) * max(self.longest))
        return self._translate(state.params, sentences, self.config.decode.width, tokens=budget)

    def _translate(self, params, sentences, width, **batching):
        nonempty = [sentence for sentence in sentences if sentence.strip()]
        pairs, truncated = tokenize(
            TextPairs(nonempty, [""] * len(nonempty)), self.vocabulary
        ).truncated(self.longest)
        outputs = iter(self.vocabulary.decode(self._decode(params, pairs, width, **batching)[0]))
        translations = [next(outputs) if sentence.strip() else "" for sentence in sentences]
        return translations, truncated

    def _decode(self, params, pairs, width, key=None, **batching):
        """Return the output tokens of every source in order, and the references' NLL and length."""
        outputs: list[Any] = [None] * len(pairs)
        nll = tokens = 0.0

        def decode(item):
            batch, indices = item
            batch_key = None if key is None else jax.random.fold_in(key, int(indices[0]))
            with mesh.evaluation_mesh(params) as split:
                results = self._decode_batch(params, split(batch), width, batch_key)
                return indices, *jax.device_get(results)

        batches = evaluation_batches(pairs, **{**self.config.batching, **batching})
        for indices, output, batch_nll, batch_tokens in hosts.map_over_hosts(decode, batches):
            nll, tokens = nll + batch_nll, tokens + batch_tokens
            for i, ids in zip(indices, output, strict=False):
                outputs[i] = ids
        return outputs, nll, tokens

    @partial(jax.jit, static_argnames=("self", "width"))
    def _decode_batch(self, params, batch, width, key=None):
        model = nnx.merge(self.graphdef, params)
        memory, _ = model.encode(batch["source"])
        if key is not None:  # hard attention only
            memory = model.with_sampling(memory, key)
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

    # Figures and samples.

    def figures(self, state: TrainState) -> dict[str, Figure]:
        """Plot every head's attention weights for the example sentence of the config."""
        return attention_figures(self.config.name, self.attention_maps(state))

    def attention_maps(self, state: TrainState, inputs: Any = None) -> list[AttentionMap]:
        """Return the attention of sentences, by default of the example and of test sentences."""
        if inputs is None:
            test = self.corpus[self.splits[0]] if self.splits else ()
            inputs = [self.config.example, *(test[i][0] for i in fixed_sample(len(test), 3))]
        sentences = list(dict.fromkeys(sentence for sentence in inputs if sentence.strip()))
        if not sentences:
            return []
        outputs, _ = self._translate(state.params, sentences, self.config.decode.width)
        pairs, _ = tokenize(TextPairs(sentences, outputs), self.vocabulary).truncated(self.longest)
        source, target = (
            pad(side, np.arange(len(sentences)), (len(sentences), length))
            for side, length in zip(pairs.sides, self.longest, strict=True)
        )
        weights = jax.device_get(self._attention(state.params, source, target))
        texts = [list(map(self.vocabulary.tokens, ids)) for ids in (source, target)]
        return sentence_maps(weights._asdict(), sentences, *texts)

    @partial(jax.jit, static_argnames="self")
    def _attention(self, params, source, target):
        return nnx.merge(self.graphdef, params).attention(source, target)

    def samples(self, state: TrainState) -> str:
        """Format a few test sentences with their translations and references."""
        test = self.corpus[self.splits[0]]
        pairs = [test[i] for i in fixed_sample(len(test), 4).tolist()]
        sources = [source for source, _ in pairs]
        outputs = self._translate(state.params, sources, self.config.decode.width)[0]
        lines = [
            f"  source     {source}\n  model      {hypothesis}\n  reference  {reference}"
            for (source, reference), hypothesis in zip(pairs, outputs, strict=True)
        ]
        return "\n\n".join(lines)
