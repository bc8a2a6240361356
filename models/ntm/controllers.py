"""Controllers of a Neural Turing Machine (Graves et al. 2014, sec. 3 and 4).

Arrays are time-major, `[T, B, ...]`, as they are inputs and outputs of a scan over time.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import affine
from models.gradient_clipping import clip_step
from models.layers import glorot, param
from models.recurrence import MatMul, append_bias, append_one, lstm_cell, orthogonal, rnn_scan


def affine_time_major(
    x: Float[Array, "T B D"], kernel: Float[Array, "D F"], bias: Float[Array, " F"] | None = None
) -> Float[Array, "T B F"]:
    """`x W + b` for time-major `x` whose examples may be sharded over devices.

    `affine` flattens the leading axes. With the example axis first, the flattened axis stays
    sharded; with the time axis first, every device would gather all examples.
    """
    return jnp.swapaxes(affine(jnp.swapaxes(x, 0, 1), kernel, bias), 0, 1)


class LSTMController(nnx.Module):
    """Stacked LSTM with skip connections from input to layers and from layers to output.

    Source: Graves 2013, "Generating Sequences with Recurrent Neural Networks", sec. 2, without
    peepholes. Initial states are learned (Graves et al. 2014, sec. 4).

    Args:
        inputs: I, width of the external input.
        read_width: R·M, width of the concatenated read vectors.
        hidden: H, width of a layer.
        layers: number of layers.
        key: PRNG key of the initial weights.
    """

    def __init__(
        self, inputs: int, read_width: int, hidden: int, layers: int, *, key: PRNGKeyArray
    ):
        self.hidden, self.width = hidden, layers * hidden
        self.input: nnx.List[nnx.Param] = nnx.List()
        self.recurrent: nnx.List[nnx.Param] = nnx.List()
        for n, layer_key in enumerate(jax.random.split(key, layers)):
            keys = jax.random.split(layer_key, 3)
            below = hidden if n else 0
            fan_in = inputs + below + read_width
            from_input = glorot(keys[0], (inputs, 4 * hidden), fan_in, hidden)
            # Rows: [hidden state, layer below, previous read vectors].
            others = glorot(keys[1], (below + read_width, 4 * hidden), fan_in, hidden)
            recurrent = jnp.concatenate([orthogonal(keys[2], hidden, 4), others])
            self.input.append(param(from_input, ("embed", "mlp")))
            self.recurrent.append(param(recurrent, ("embed", "mlp")))
        bias = jnp.zeros((layers, 4, hidden)).at[:, 1].set(1.0)  # forget gates
        self.bias = param(bias.reshape(layers, -1), (None, "mlp"))
        self.initial_state = param(jnp.zeros((layers, 2, hidden)), (None, None, None))

    def weights(self) -> dict[str, Float[Array, "_ G"]]:
        """Kernels of all layers with their biases, for `step`.

        Every step multiplies the external input by these kernels. The input has few channels, so a
        separate projection of all steps would take longer.
        """
        return {
            f"layer_{n}": append_bias(jnp.concatenate([recurrent[...], from_input[...]]), bias)
            for n, (recurrent, from_input, bias) in enumerate(
                zip(self.recurrent, self.input, self.bias[...], strict=True)
            )
        }

    def init_carry(self, batch: int) -> list[tuple[Float[Array, "B H"], Float[Array, "B H"]]]:
        """Hidden and cell state of each layer before the first step."""
        states = jnp.broadcast_to(
            self.initial_state[...][:, :, None],
            (*self.initial_state.shape[:2], batch, self.hidden),
        )
        return [(hidden, cell) for hidden, cell in states]

    @staticmethod
    def step(
        matmul: MatMul, x: Float[Array, "B I"], read_vectors: Float[Array, "B F"], carry
    ) -> tuple[list[tuple[Array, Array]], Float[Array, "B C"]]:
        """Compute one step and return the new carry and the hidden states of all layers."""
        new: list[tuple[Array, Array]] = []
        below: list[Array] = []
        for n, (hidden, cell) in enumerate(carry):
            inputs = jnp.concatenate([hidden, *below, read_vectors, x], axis=-1)
            new.append(lstm_cell(matmul(f"layer_{n}", append_one(inputs)), cell))
            below = [new[-1][0]]
        return new, jnp.concatenate([hidden for hidden, _ in new], axis=-1)

    def __call__(
        self, x: Float[Array, "T B I"], steps: Int[Array, ""], backward_clip: float
    ) -> Float[Array, "T B C"]:
        """Hidden states of all layers and steps, for a controller without read vectors.

        The layers run one after the other, so that one product projects all inputs of a layer.
        """

        def step(matmul, consts, carry, projected):
            del consts
            carry = lstm_cell(projected + matmul("recurrent", carry[0]), carry[1])
            return carry, carry[0]

        x = x.astype(jnp.float32)
        states: list[Array] = []
        for kernel, from_input, bias, carry in zip(
            self.recurrent, self.input, self.bias[...], self.init_carry(x.shape[1]), strict=True
        ):
            recurrent, from_below = jnp.split(kernel[...], [self.hidden])
            projected = affine_time_major(x, from_input[...], bias)
            if states:
                projected += affine_time_major(states[-1], from_below)
            weights = {"recurrent": recurrent}
            clipped = clip_step(step, backward_clip)
            states.append(rnn_scan(clipped, weights, None, carry, projected, steps)[1])
        return jnp.concatenate(states, axis=-1)


class FeedForwardController(nnx.Module):
    """Controller with one hidden layer, `tanh(W x_t + U r_{t-1} + b)`, and no state.

    Args: as for `LSTMController`.

    Raises:
        ValueError: if `layers` is not 1.
    """

    def __init__(
        self, inputs: int, read_width: int, hidden: int, layers: int, *, key: PRNGKeyArray
    ):
        if layers != 1:
            raise ValueError(f"a feed-forward controller has one layer, not {layers}")
        self.width = hidden
        keys = jax.random.split(key)
        fan_in = inputs + read_width
        self.input = param(glorot(keys[0], (inputs, hidden), fan_in, hidden), ("embed", "mlp"))
        self.feedback = param(
            glorot(keys[1], (read_width, hidden), fan_in, hidden), ("embed", "mlp")
        )
        self.bias = param(jnp.zeros(hidden), ("mlp",))

    def weights(self) -> dict[str, Float[Array, "_ H"]]:
        """Kernel of the hidden layer with its bias, for `step`."""
        kernel = jnp.concatenate([self.feedback[...], self.input[...]])
        return {"hidden": append_bias(kernel, self.bias[...])}

    def init_carry(self, batch: int) -> tuple[()]:
        """Empty carry of a controller without state."""
        del batch
        return ()

    @staticmethod
    def step(
        matmul: MatMul,
        x: Float[Array, "B I"],
        read_vectors: Float[Array, "B F"],
        carry: tuple[()],
    ) -> tuple[tuple[()], Float[Array, "B H"]]:
        """Compute one step and return the empty carry and the hidden layer."""
        inputs = jnp.concatenate([read_vectors, x], axis=-1)
        return carry, jnp.tanh(matmul("hidden", append_one(inputs)))


CONTROLLERS: dict[str, type[LSTMController | FeedForwardController]] = {
    "lstm": LSTMController,
    "feed_forward": FeedForwardController,
}
