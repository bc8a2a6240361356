"""What a recurrent decoder attends with: any score of the taxonomy with any alignment."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

import attention
from attention import affine, local, masks
from models.layers import glorot, param
from models.recurrence import Product

ScoreName = Literal["content", "additive", "location", "general", "dot", "scaled_dot"]
AlignmentName = Literal["soft", "hard", "straight_through", "local_m", "local_p", "none"]


class Source(NamedTuple):
    """What is attended to, projected once per sentence."""

    keys: Float[Array, "B S K"]
    values: Float[Array, "B S M"]
    valid: Bool[Array, "B S"]


class Aligned(NamedTuple):
    """What attention did, to look at and to train by; `None` where a mechanism has no such thing.

    The weights of local alignments are those of the windows; `Mechanism.spread` puts them back.
    """

    weights: Float[Array, "B T _"]
    centres: Float[Array, "B T"] | None = None  # of the windows
    log_prob: Float[Array, "B T"] | None = None  # of what was drawn, zero where nothing was
    entropy: Float[Array, "B T"] | None = None  # of what it was drawn from


class Draw(NamedTuple):
    """The chance that hard alignments take; none in evaluation, where the likeliest key wins."""

    key: PRNGKeyArray
    expected: Bool[Array, " B"]  # sentences that read their expectation instead of a draw


class Mechanism(nnx.Module):
    """Weights of a score and of an alignment.

    Within a scan, weights that multiply the decoder's state go through `product`, and the others
    through `params`: see `models.recurrence.scan`. So no method but `project`, `weights` and
    `params` touches a weight.

    Args:
        query_width: of the decoder's states.
        annotation_width: M, of the encoder's annotations.
        score: a name of `attention.scores`.
        alignment: `soft`, `hard`, `straight_through`, `local_m` or `local_p`; or `none`, the
            control: every state reads the encoder's summary, a fixed vector, whatever the score.
        width: A, of the hidden layers that score additively or predict a centre.
        longest: most source positions that a location-based score knows.
        half_width: D, of local windows.
        expected: probability that a sentence under hard alignment reads its expectation in training
            (Xu et al. 2015, sec. 4.1: 0.5).
        entropy: weight of the entropy bonus in training hard alignment (lambda_e there).
        key: makes the weights.

    Raises:
        ValueError: an unknown score or alignment, a score that compares vectors of two widths, or
            a Gaussian without width.
    """

    def __init__(
        self,
        query_width: int,
        annotation_width: int,
        *,
        score: ScoreName,
        alignment: AlignmentName,
        width: int,
        longest: int,
        half_width: int,
        expected: float,
        entropy: float,
        key: PRNGKeyArray,
    ):
        for name, value, known in (
            ("score", score, get_args(ScoreName)),
            ("alignment", alignment, get_args(AlignmentName)),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        compares = score in ("content", "dot", "scaled_dot") and alignment != "none"
        if compares and query_width != annotation_width:
            raise ValueError(
                f"score {score!r} compares states of width {query_width} with annotations of width "
                f"{annotation_width}: make them equal, or choose 'general' or 'additive'"
            )
        if alignment == "local_p" and half_width < 1:
            raise ValueError(
                f"alignment 'local_p' needs a half_width of at least 1, not {half_width}"
            )
        q, m, a = query_width, annotation_width, width
        keys = jax.random.split(key, 6)
        of = lambda name: score == name and alignment != "none"
        matrix = lambda key, rows, columns: param(
            glorot(key, (rows, columns), rows, columns), ("embed", "mlp")
        )
        vector = lambda key: param(glorot(key, (a,), a, 1), ("mlp",))
        self.query = matrix(keys[0], q, a) if of("additive") else None
        self.key = (
            matrix(keys[1], m, a if of("additive") else q)
            if (of("additive") or of("general"))
            else None
        )
        self.vector = vector(keys[2]) if of("additive") else None
        self.rows = matrix(keys[3], longest, q) if of("location") else None
        # A cosine alone would leave the softmax almost flat.
        self.sharpness = param(jnp.full((), 10.0), ()) if of("content") else None
        self.centre = matrix(keys[4], q, a) if alignment == "local_p" else None
        self.centre_vector = vector(keys[5]) if alignment == "local_p" else None
        self.score, self.alignment = score, alignment
        self.half_width, self.expected, self.entropy = half_width, expected, entropy

    def project(
        self,
        annotations: Float[Array, "B S M"],
        summary: Float[Array, "B M"],
        valid: Bool[Array, "B S"],
    ) -> Source:
        """What depends on the source alone, once per sentence."""
        if self.alignment == "none":
            annotations, valid = summary[:, None], jnp.ones((len(summary), 1), bool)
        if self.rows is not None:
            length, longest = annotations.shape[1], self.rows.shape[0]
            if length > longest:
                raise ValueError(f"a source of {length} is longer than attention.longest={longest}")
            rows = self.rows[:length].astype(annotations.dtype)
            keys = jnp.broadcast_to(rows, (annotations.shape[0], *rows.shape))
        elif self.key is not None:
            keys = affine(annotations, self.key[...])
        else:
            keys = annotations
        return Source(keys, annotations, valid)

    def weights(self) -> dict[str, Float[Array, "H A"]]:
        """What multiplies the decoder's state."""
        named = {"query": self.query, "centre": self.centre}
        return {name: weight[...] for name, weight in named.items() if weight is not None}

    def params(self, batch: int) -> dict[str, Array]:
        """The other weights that a decoder's step needs, `[B, ...]`, a copy for each sentence.

        In a loop over time a copy collects the gradient of its own sentence, and copies are summed
        after it: sentences may be split over devices, which so need not meet at every step.
        """
        named = {"vector": self.vector, "centre_vector": self.centre_vector}
        weights = {name: weight[...] for name, weight in named.items() if weight is not None}
        if self.sharpness is not None:
            weights["sharpness"] = jnp.abs(self.sharpness[...])
        return {
            name: jnp.broadcast_to(weight, (batch, *weight.shape))
            for name, weight in weights.items()
        }

    def draw(self, key: PRNGKeyArray | None, batch: int) -> Draw | None:
        """The chance of one pass, if this alignment takes any."""
        if key is None or self.alignment not in ("hard", "straight_through"):
            return None
        key, key_expected = jax.random.split(key)
        return Draw(key, jax.random.bernoulli(key_expected, self.expected, (batch,)))

    def __call__(
        self,
        product: Product,
        params: dict[str, Array],
        source: Source,
        queries: Float[Array, "B T H"],
        positions: Int[Array, " T"],
        draw: Draw | None = None,
    ) -> tuple[Float[Array, "B T M"], Aligned]:
        """Attends from decoder states to a source.

        Args:
            product: multiplies by one of `weights`.
            params: of `params`.
            source: of `project`.
            queries: decoder states: of several positions, or of several beams.
            positions: the target position of each.
            draw: of `draw`.

        Returns:
            Contexts, and what was attended to.
        """
        if self.alignment == "none":
            shape = (*queries.shape[:2], source.values.shape[-1])
            return jnp.broadcast_to(source.values, shape), Aligned(jnp.ones((*shape[:2], 1)))
        projected = product("query", queries) if self.score == "additive" else queries
        score_params = params.get("vector")
        if self.score == "content":
            score_params = params["sharpness"][:, None]  # for each query
        score = getattr(attention, self.score)
        if self.alignment.startswith("local"):
            if score_params is not None:
                score_params = score_params[:, None]  # for each window
            centres = self._centres(product, params, source, queries, positions)
            contexts, weights = local.attend(
                projected,
                source.keys,
                source.values,
                centres,
                source.valid,
                half_width=self.half_width,
                gaussian=self.alignment == "local_p",
                score=score,
                params=score_params,
            )
            return contexts, Aligned(weights, centres)
        logits = score(projected, source.keys, score_params)
        aligned = self._align(logits, masks.padding(source.valid), draw)
        return attention.read(aligned.weights, source.values), aligned

    def _centres(self, product, params, source, queries, positions):
        lengths = source.valid.sum(-1)
        if self.alignment == "local_m":
            positions = jnp.broadcast_to(positions, queries.shape[:2])
            return local.monotonic_centres(positions, lengths)
        hidden = product("centre", queries)
        return local.predicted_centres(hidden, params["centre_vector"], lengths)

    def _align(self, logits, mask, draw: Draw | None) -> Aligned:
        if self.alignment == "soft":
            return Aligned(attention.soft(logits, mask))
        if draw is None:
            return Aligned(attention.hardest(logits, mask))
        if self.alignment == "straight_through":
            return Aligned(attention.straight_through(logits, draw.key, mask))
        choice = attention.hard(logits, draw.key, mask)
        expected = draw.expected[:, None]
        weights = jnp.where(expected[..., None], attention.soft(logits, mask), choice.weights)
        log_prob = jnp.where(expected, 0.0, choice.log_prob)
        return Aligned(weights, log_prob=log_prob, entropy=choice.entropy)

    def spread(self, aligned: Aligned, length: int) -> Float[Array, "B T S"]:
        """The weights over all source positions."""
        if aligned.centres is None:
            return aligned.weights
        return local.scattered(aligned.weights, aligned.centres, length)
