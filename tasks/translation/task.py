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

from models import EncoderDecoder
from models.encoder_decoder import Segments
from tasks.attention_kernel import check_kernel
from tasks.attention_maps import AttentionMap
from tasks.base import Supervised
from tasks.hard_attention import check_alignment
from tasks.subsets import fixed_sample
from tasks.translation import ensemble, metrics
from tasks.translation.alignments import alignment_error_rate, links_of, read_alignments
from tasks.translation.architectures import select_model
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
from tasks.translation.decoding import Decoded, Decoder, check_positions, cross_entropy
from tasks.translation.figures import attention_figures, sentence_maps
from tasks.translation.unknown_words import known_pairs, read_dictionary, replace_unknown
from tasks.vocabulary import check_initial_weights, is_trained
from training import optimizer
from training.errors import UserError, config_section
from training.loop import check_best
from training.prefetch import prefetch
from training.state import TrainState

VOCABULARY = "vocabulary.model"  # file in the run directory


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

    unit, independent_examples = "tokens", True
    samples_attention = False  # whether the task trains models with hard alignment

    def __init__(self, config: Any, workdir: Path):
        super().__init__(optimizer.build(**config.optimizer), config.train.accumulate)
        self.config = config
        metrics.check_names(config.metrics, others=("perplexity", "truncated"))
        model, model_options = select_model(config.architecture, config.model)
        self.workdir, self.cache = workdir, workdir / "tokens"
        self.longest = bucket_shapes(config.batching.buckets)[-1]
        _, options = select_vocabulary(**config.vocabulary)
        # The size of a subword vocabulary is configured, so the corpus is not needed for it.
        self.vocabulary_size = options["size"] if "size" in options else len(self.vocabulary)
        self.create: Callable[..., EncoderDecoder] = partial(
            model, vocabulary=self.vocabulary_size, **model_options
        )
        check_kernel(config.model)
        with config_section("model"):
            abstract = nnx.eval_shape(lambda: self.create(key=jax.random.key(0)))
        self.graphdef = nnx.graphdef(abstract)
        decode = config.decode
        self.decoder = Decoder(self.graphdef, config.batching, decode.extra, decode.length_penalty)
        # Whether the attention replaces the unknown words of translations.
        self.replaces_unknown = config.vocabulary.kind == "words" and abstract.has_alignment
        metrics.check_variants(config.metrics, config.vocabulary.kind, abstract.has_alignment)
        check_alignment(
            abstract.samples_attention, self.samples_attention, config.task, "translation"
        )
        check_packing(dict(config.packing), abstract.supports_packing, config.architecture)
        lengths = (
            *self.longest,
            self.longest[0] + decode.extra,
            *(self._row if config.packing else ()),
        )
        check_positions(model_options, self.longest[0], max(lengths))

    def check_data(self) -> None:
        """Load the vocabulary and check the metrics, to report faulty data before training."""
        if self.replaces_unknown:
            read_dictionary(self.config.decode.dictionary)
        if not is_trained(self.workdir / VOCABULARY):
            check_best(self, self.config.train.best)
            self._check_metrics()
        size = len(self.vocabulary)
        if self.config.vocabulary.kind == "words":  # a small text may have fewer words
            size = max(size, self.vocabulary_size)
        if size != self.vocabulary_size:
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

    def has_metric(self, name: str) -> bool:
        """Return whether the dev split has a metric."""
        return name in self.config.metrics

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
        check_initial_weights(path, self.config.train.init_from)
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
        loss, tokens = cross_entropy(model, states, batch["target"], self.config.label_smoothing)
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
        """Return the shapes of a packed batch, or of a batch of the longest training sentences."""
        if self.config.packing:
            size, lengths = self.config.packing.rows, self._row
        else:
            batching, longest = self.config.batching, self._longest_training_pair
            buckets = bucket_shapes(batching.buckets)
            lengths = next(b for b in buckets if b[0] >= longest[0] and b[1] >= longest[1])
            size = bucket_batch_size(lengths, batching.tokens, batching.batch_size_multiple)
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

    @property
    def _longest_training_pair(self) -> Lengths:
        """Largest lengths of a training pair, with EOS; longer pairs are left out."""
        source, target = self._row if self.config.packing else self.longest
        if longest := self.config.max_training_length:  # without EOS
            return min(source, longest + 1), min(target, longest + 1)
        return source, target

    @cached_property
    def _training_pairs(self) -> tuple[TokenizedPairs, int]:
        return self._tokenized("train").within(self._longest_training_pair)

    def _evaluation_pairs(self, split: str) -> tuple[TokenizedPairs, int]:
        if split not in self.corpus:
            raise UserError(f"There is no split '{split}', only {', '.join(self.corpus)}.")
        return self._tokenized(split).truncated(self.longest)

    def _tokenized(self, split: str) -> TokenizedPairs:
        return tokenize(self.corpus[split], self.vocabulary, self.cache)

    # Evaluation.

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """Compute the configured metrics of a split.

        `perplexity` is per token; `truncated` counts the pairs cut to the longest bucket. For
        word vocabularies, `bleu_replaced` is BLEU after the replacement of unknown words, and
        `bleu_known` of the sentences without any, if there are such sentences. On test splits the
        first metric is also computed by source length in tokens with EOS, as `bleu_9-16`, for the
        intervals between the edges `config.lengths`.
        """
        width = self.config.decode.dev_width if split == "dev" else self.config.decode.width
        return self.generation_metrics(state, split, width)

    def generation_metrics(self, state, split, width, key=None):
        """Compute the metrics of a split; with a key, models with hard attention sample."""
        metrics.check(self.config.metrics, self.config.data.target)  # before decoding
        pairs, truncated = self._evaluation_pairs(split)
        variants = {variant for _, variant in map(metrics.split_name, self.config.metrics)}
        decoded = self.decoder.decode(state.params, pairs, width, key, align="replaced" in variants)
        references = [
            [self.vocabulary.target.normalize(text) for text in several]
            for several in self.corpus[split].references
        ]
        texts = {"": (self.vocabulary.target.decode(decoded.outputs), references)}
        if "replaced" in variants:
            sources = [source for source, _ in self.corpus[split]]
            texts["replaced"] = self._replace_unknown(decoded, sources), references
        if "known" in variants and len(known := known_pairs(pairs)):
            outputs = self.decoder.decode(
                state.params, pairs.select(known), width, key, allow_unknown=False
            ).outputs
            hypotheses = self.vocabulary.target.decode(outputs)
            texts["known"] = hypotheses, [references[i] for i in known]
        values = {
            "perplexity": math.exp(min(decoded.nll / decoded.tokens, 700.0)),
            "truncated": float(truncated),
        }
        for name in self.config.metrics:
            metric, variant = metrics.split_name(name)
            if name not in values and variant in texts:
                values[name] = metrics.TEXT_METRICS[metric](
                    *texts[variant], self.config.data.target
                )
        values = {name: values[name] for name in self.config.metrics if name in values}
        if split in self.splits and (name := self.config.metrics[0]) in metrics.TEXT_METRICS:
            values |= metrics.by_length(
                name, self.config.lengths, pairs.source.lengths, *texts[""], self.config.data.target
            )
        return values

    def _replace_unknown(self, decoded: Decoded, sources: Sequence[str]) -> list[str]:
        return replace_unknown(
            decoded.outputs,
            decoded.positions,
            map(self.vocabulary.source.normalize, sources),
            self.vocabulary.target,
            read_dictionary(self.config.decode.dictionary),
        )

    def alignment_error_rate(
        self, state: TrainState, split: str, file: str, *, from_one: bool, reverse: bool
    ) -> float:
        """Compute the alignment error rate of the attention, see `tasks.base.WordAligner`."""
        if not self.replaces_unknown:
            raise UserError("--alignments needs a model with attention and a vocabulary of words.")
        pairs, _ = self._evaluation_pairs(split)
        lengths = [
            (len(source.split()), len(target.split())) for source, target in self.corpus[split]
        ]
        alignments = read_alignments(file, lengths, from_one=from_one, reverse=reverse)
        found = links_of(pairs, self.decoder.align(state.params, pairs))
        return alignment_error_rate(found, alignments)

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
        decoded = self.decoder.decode(params, pairs, width, align=self.replaces_unknown, **batching)
        if self.replaces_unknown:
            outputs = iter(self._replace_unknown(decoded, nonempty))
        else:
            outputs = iter(self.vocabulary.target.decode(decoded.outputs))
        translations = [next(outputs) if sentence.strip() else "" for sentence in sentences]
        return translations, truncated

    def ensemble(self, state: Any, others: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
        """Return a task and a state for several models, see `tasks.base.SupportsEnsemble`."""
        return ensemble.join(self, state, others)

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
        weights = jax.device_get(self.decoder.attention(state.params, source, target))
        sources = list(map(self.vocabulary.source.tokens, source))
        targets = list(map(self.vocabulary.target.tokens, target))
        return sentence_maps(weights._asdict(), sentences, sources, targets)

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
