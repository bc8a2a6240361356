"""Critic: predicts the expected tour length of a policy on an instance.

Source: Bello et al. 2016, "Neural Combinatorial Optimization with Reinforcement Learning", sec. 4,
"Critic's architecture for TSP".
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import affine, pointer
from models.layers import glorot, param
from models.pointer_network.encoders import make_encoder
from models.pointer_network.network import ScoreName, Scorer


class Critic(nnx.Module):
    """Encoder, processing steps that are glimpses at its annotations, and two dense layers.

    The first query is the encoder's hidden state, and the result of each glimpse is the next
    query. All processing steps have the same weights. Deviation: the paper has an LSTM process
    block; here no LSTM updates the query between glimpses.

    Args:
        hidden: H.
        encoder: `kind`, `layers` and `heads` of `make_encoder`; weights are not shared with the
            policy.
        score: name of the score of the glimpses; see `Scorer`.
        width: A, width of the hidden layer of the additive score.
        steps: number of processing steps.
        key: PRNG key of the weights.
    """

    def __init__(
        self,
        *,
        hidden: int,
        encoder: dict[str, Any],
        score: ScoreName,
        width: int,
        steps: int,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key, 4)
        self.encoder = make_encoder(hidden, **encoder, key=keys[0])
        self.scorer = Scorer(hidden, score=score, width=width, key=keys[1])
        self.inner = param(glorot(keys[2], (hidden, hidden), hidden, hidden), ("embed", "mlp"))
        self.inner_bias = param(jnp.zeros(hidden), ("mlp",))
        self.output = param(glorot(keys[3], (hidden, 1), hidden, 1), ("mlp", None))
        self.output_bias = param(jnp.zeros(1), (None,))
        self.steps = steps

    def __call__(self, points: Float[Array, "B N 2"], count: Int[Array, ""]) -> Float[Array, " B"]:
        """Predict a length for each instance.

        Args:
            points: `[B, N, 2]`.
            count: number of points of every instance.
        """
        annotations, (hidden, _) = self.encoder(points, count)
        projected = self.scorer.project(annotations)
        mask, query = jnp.arange(points.shape[1])[None] < count, hidden[:, None]
        for _ in range(self.steps):
            projected_query = affine(query, self.scorer.query[...])
            args = self.scorer.score_args()
            query = pointer.glimpse(projected_query, *projected, mask=mask, **args)
        x = jax.nn.relu(affine(query[:, 0], self.inner[...], self.inner_bias[...]))
        return affine(x, self.output[...], self.output_bias[...])[:, 0]
