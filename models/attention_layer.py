"""Attention layer of the recurrent decoders: any score combined with any alignment."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

import attention
from attention import affine, local, masks
from models.device_batch import example_keys
from models.layers import glorot, param
from models.recurrence import MatMul

ScoreName = Literal["content", "additive", "location", "general", "dot", "scaled_dot"]
AlignmentName = Literal["soft", "hard", "straight_through", "local_m", "local_p", "none"]


class ProjectedSource(NamedTuple):
    """Keys and values of the source, projected once per sentence."""

    keys: Float[Array, "B S K"]
    values: Float[Array, "B S M"]
    valid: Bool[Array, "B S"]  # false at padding


class AlignmentOutput(NamedTuple):
    """Attention weights, and further outputs that are `None` for alignments without them.

    Local alignments give the weights of their windows; `AttentionLayer.scatter` converts them to
    weights over source positions.
    """

    weights: Float[Array, "B T _"]
    centers: Float[Array, "B T"] | None = None  # window centers
    log_prob: Float[Array, "B T"] | None = None  # of the sampled position; 0 without a sample
    entropy: Float[Array, "B T"] | None = None  # of the distribution over positions, in nats


class SamplingState(NamedTuple):
    """State of sampled alignments; without a state, as in evaluation, the argmax is used."""

    keys: Key[Array, " B"]
    use_expectation: Bool[Array, " B"]  # hard alignment: examples with soft weights, not samples


def sampling_of_all(key: PRNGKeyArray, count: int) -> SamplingState:
    """Return the state with which the alignments of all examples are sampled."""
    return SamplingState(example_keys(key, count), jnp.zeros(count, bool))


def sampling_at(sampling: SamplingState | None, position: Int[Array, ""]) -> SamplingState | None:
    """Fold the position into the keys; `use_expectation` is the same at all positions."""
    fold_in = jax.vmap(jax.random.fold_in, (0, None))
    return sampling and sampling._replace(keys=fold_in(sampling.keys, position))


class AttentionLayer(nnx.Module):
    """Parameters of a score and of an alignment.

    From decoder states s_{i-1} and annotations h_j (Bahdanau et al. 2015, eq. 5 and 6):

        e_ij = score(s_{i-1}, h_j),  alpha_i = alignment(e_i),  c_i = sum_j alpha_ij h_j

    In Luong et al. 2015 the current state h_t takes the place of s_{i-1}.

    A step of `models.recurrence.rnn_scan` must not read parameters from a module. Matrices that
    multiply decoder states are applied by the `matmul` of the scan, the other parameters are
    arguments. Therefore only `project`, `weights` and `broadcast_params` read parameters.

    Args:
        query_width: width of the decoder states.
        annotation_width: M, width of the encoder's annotations.
        score: name of a score of `attention.scores`.
        alignment: `soft`, `hard`, `straight_through`, `local_m`, `local_p`, or `none`: the control
            without attention, in which every state reads the encoder's summary, a fixed vector.
        width: A, width of the hidden layer of the additive score and of local-p.
        max_source_length: number of source positions of the location-based score.
        half_width: D of local alignments, whose window has 2D + 1 positions.
        expectation_probability: probability that a sentence uses soft weights in training with
            hard alignment (Xu et al. 2015, sec. 4.1: 0.5).
        entropy_weight: lambda_e, weight of the entropy bonus in training with hard alignment.
        key: PRNG key of the weights.

    Raises:
        ValueError: if the score or alignment is unknown, if the score requires equal widths, or if
            the half-width of a Gaussian window is less than 1.
    """

    def __init__(
        self,
        query_width: int,
        annotation_width: int,
        *,
        score: ScoreName,
        alignment: AlignmentName,
        width: int,
        max_source_length: int,
        half_width: int,
        expectation_probability: float,
        entropy_weight: float,
        key: PRNGKeyArray,
    ):
        q, m, a = query_width, annotation_width, width
        _check_options(score, alignment, q, m, half_width)
        keys = jax.random.split(key, 6)
        matrix = lambda key, rows, columns: param(
            glorot(key, (rows, columns), rows, columns), ("embed", "mlp")
        )
        vector = lambda key: param(glorot(key, (a,), a, 1), ("mlp",))
        used_score = score if alignment != "none" else None
        key_width = {"additive": a, "general": q}.get(used_score or "")
        # Symbols of Bahdanau et al. 2015 (W_a, U_a, v_a) and Luong et al. 2015 (W_p, v_p). For the
        # general score, `key` is Luong's W_a; for the location-based score, `location` is W_a.
        self.query = matrix(keys[0], q, a) if used_score == "additive" else None  # W_a
        self.key = matrix(keys[1], m, key_width) if key_width else None  # U_a
        self.vector = vector(keys[2]) if used_score == "additive" else None  # v_a
        self.location = matrix(keys[3], max_source_length, q) if used_score == "location" else None
        # A cosine is at most 1: with a small key strength the softmax is almost uniform.
        self.key_strength = param(jnp.full((), 10.0), ()) if used_score == "content" else None
        self.center = matrix(keys[4], q, a) if alignment == "local_p" else None  # W_p
        self.center_vector = vector(keys[5]) if alignment == "local_p" else None  # v_p
        self.score, self.alignment, self.half_width = score, alignment, half_width
        self.expectation_probability = expectation_probability
        self.entropy_weight = entropy_weight

    def project(
        self,
        annotations: Float[Array, "B S M"],
        summary: Float[Array, "B M"],
        valid: Bool[Array, "B S"],
    ) -> ProjectedSource:
        """Project the keys, which depend on the source only.

        Raises:
            ValueError: if the source is longer than the location-based score supports.
        """
        if self.alignment == "none":
            annotations, valid = summary[:, None], jnp.ones((len(summary), 1), bool)
        if self.location is not None:
            length, max_length = annotations.shape[1], self.location.shape[0]
            if length > max_length:
                raise ValueError(
                    f"a source of {length} tokens exceeds attention.max_source_length={max_length}"
                )
            rows = self.location[:length].astype(annotations.dtype)
            keys = jnp.broadcast_to(rows, (annotations.shape[0], *rows.shape))
        elif self.key is not None:
            keys = affine(annotations, self.key[...])
        else:
            keys = annotations
        return ProjectedSource(keys, annotations, valid)

    def weights(self) -> dict[str, Float[Array, "H A"]]:
        """Matrices that multiply decoder states, for the `weights` of `rnn_scan`."""
        named = {"query": self.query, "center": self.center}
        return {name: weight[...] for name, weight in named.items() if weight is not None}

    def broadcast_params(self, batch: int) -> dict[str, Array]:
        """Parameters other than `weights`, `[B, ...]`, for the `consts` of `rnn_scan`.

        One copy per sentence collects the gradient of that sentence inside the loop, and the copies
        are summed after the loop. If sentences are sharded over devices, this needs one
        all-reduce instead of one per step.
        """
        named = {"vector": self.vector, "center_vector": self.center_vector}
        params = {name: weight[...] for name, weight in named.items() if weight is not None}
        if self.key_strength is not None:
            params["key_strength"] = jnp.abs(self.key_strength[...])
        return {
            name: jnp.broadcast_to(weight, (batch, *weight.shape))
            for name, weight in params.items()
        }

    def init_sampling(self, key: PRNGKeyArray | None, batch: int) -> SamplingState | None:
        """Create the sampling state of a training pass; `None` for deterministic alignments."""
        if key is None or self.alignment not in ("hard", "straight_through"):
            return None
        keys, expectation_keys = (example_keys(k, batch) for k in jax.random.split(key))
        choose = lambda key: jax.random.bernoulli(key, self.expectation_probability)
        return SamplingState(keys, jax.vmap(choose)(expectation_keys))

    def __call__(
        self,
        matmul: MatMul,
        params: dict[str, Array],
        source: ProjectedSource,
        queries: Float[Array, "B T H"],
        positions: Int[Array, " T"],
        sampling: SamplingState | None = None,
    ) -> tuple[Float[Array, "B T M"], AlignmentOutput]:
        """Attend from decoder states to the source.

        Args:
            matmul: multiplies by a matrix of `weights`.
            params: from `broadcast_params`.
            source: from `project`.
            queries: decoder states of T target positions, or of T beams at one position.
            positions: target position of each query.
            sampling: state of sampled alignments.

        Returns:
            Contexts c_i and the alignment.
        """
        if self.alignment == "none":
            shape = (*queries.shape[:2], source.values.shape[-1])
            weights = jnp.ones((*shape[:2], 1))
            return jnp.broadcast_to(source.values, shape), AlignmentOutput(weights)
        projected = matmul("query", queries) if self.score == "additive" else queries
        score, score_params = getattr(attention, self.score), self._score_params(params)
        if self.alignment.startswith("local"):
            centers = self._centers(matmul, params, source, queries, positions)
            contexts, weights = local.attend(
                projected,
                source.keys,
                source.values,
                centers,
                source.valid,
                half_width=self.half_width,
                gaussian=self.alignment == "local_p",
                score=score,
                # Each query has its own window, hence one more axis.
                params=None if score_params is None else score_params[:, None],
            )
            return contexts, AlignmentOutput(weights, centers)
        e = score(projected, source.keys, score_params)
        output = self._align(e, masks.padding(source.valid), sampling)
        alpha, h = output.weights, source.values
        return attention.read(alpha, h), output

    def _score_params(self, params):
        if self.score == "content":
            return params["key_strength"]
        return params.get("vector")

    def _centers(self, matmul, params, source, queries, positions):
        """Window centers p_t (Luong et al. 2015, sec. 3.2)."""
        lengths = source.valid.sum(-1)
        if self.alignment == "local_m":
            positions = jnp.broadcast_to(positions, queries.shape[:2])
            return local.monotonic_centers(positions, lengths)
        return local.predicted_centers(matmul("center", queries), params["center_vector"], lengths)

    def _align(self, e, mask, sampling: SamplingState | None) -> AlignmentOutput:
        if self.alignment == "soft":
            return AlignmentOutput(attention.soft(e, mask))
        if sampling is None:
            return AlignmentOutput(attention.argmax(e, mask))
        if self.alignment == "straight_through":
            return AlignmentOutput(jax.vmap(attention.straight_through)(e, sampling.keys, mask))
        sample = jax.vmap(attention.hard)(e, sampling.keys, mask)
        use_expectation = sampling.use_expectation[:, None]
        weights = jnp.where(use_expectation[..., None], attention.soft(e, mask), sample.weights)
        log_prob = jnp.where(use_expectation, 0.0, sample.log_prob)
        return AlignmentOutput(weights, log_prob=log_prob, entropy=sample.entropy)

    def scatter(self, alignment: AlignmentOutput, length: int) -> Float[Array, "B T S"]:
        """Weights over all source positions."""
        if alignment.centers is None:
            return alignment.weights
        return local.scatter(alignment.weights, alignment.centers, length)


def _check_options(score, alignment, query_width, annotation_width, half_width):
    for name, value, known in (
        ("score", score, get_args(ScoreName)),
        ("alignment", alignment, get_args(AlignmentName)),
    ):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    equal_widths = score in ("content", "dot", "scaled_dot") and alignment != "none"
    if equal_widths and query_width != annotation_width:
        raise ValueError(
            f"score {score!r} needs decoder states and annotations of equal width, not "
            f"{query_width} and {annotation_width}: make them equal, or choose 'general' or "
            "'additive'"
        )
    if alignment == "local_p" and half_width < 1:
        raise ValueError(f"alignment 'local_p' needs a half_width of at least 1, not {half_width}")
