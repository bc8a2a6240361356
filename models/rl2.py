"""RL²: a recurrent network that learns to learn, the baseline of SNAIL.

Source: Duan et al. 2016, "RL²: fast reinforcement learning via slow reinforcement learning".
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models.layers import glorot, param
from models.recurrence import GRU, product_by, run
from models.snail import Heads


class RL2(nnx.Module):
    """A layer of gated recurrent units between what is seen and what is done; see `SNAIL`.

    Mishra et al. 2018 give it LSTM units; these are those of Duan et al.

    Args:
        inputs: I, channels of what is seen at a step.
        actions: A.
        hidden: H, units.
        key: makes the weights.
    """

    def __init__(self, *, inputs: int, actions: int, hidden: int, key: PRNGKeyArray):
        self.gru = GRU(inputs, hidden, key=key)
        self.heads = Heads(hidden, actions)

    def __call__(
        self, x: Float[Array, "B T I"]
    ) -> tuple[Float[Array, "B T A"], Float[Array, "B T"]]:
        """Whole trials: logits and values of every step."""
        outputs, _ = run(self.gru, x, jnp.ones(x.shape[:2], bool))
        return self.heads(outputs)

    def init_cache(self, batch: int) -> Float[Array, "B H"]:
        """The state before the first step."""
        return self.gru.start(batch, jnp.float32)

    def step(
        self, x: Float[Array, "B I"], cache: Float[Array, "B H"]
    ) -> tuple[Float[Array, "B A"], Float[Array, " B"], Float[Array, "B H"]]:
        """One step: logits, values, and the new state."""
        carry, output = self.gru.step(product_by(self.gru.weights()), self.gru.drive(x), cache)
        return *self.heads(output), carry
