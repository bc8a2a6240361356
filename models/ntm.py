"""The Neural Turing Machine (Graves et al. 2014), and the LSTM that it is compared with.

Time comes first here, `[T, B, ...]`: every output is of one loop over time, in which the whole
batch takes each step together.
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import affine, read
from attention.memory import Addressing, address, write
from models.layers import glorot, param
from models.recurrence import Product, lstm_cell, orthogonal, scan, with_bias, with_one

MemoryStart = Literal["constant", "learned", "random"]
CONSTANT = 1e-6  # of every cell of a memory at the start (Collier & Beel 2018)
SPREAD = 0.5  # of a random one
FOCUS = 10.0  # logit of the first row, where all heads stand before they learn where to start


def affine_by_rows(
    x: Float[Array, "T B D"], kernel: Float[Array, "D F"], bias: Float[Array, " F"] | None = None
) -> Float[Array, "T B F"]:
    """`affine` at every step of a batch whose rows may be split over devices.

    It lays all positions in a line, step by step as they come, where the rows of one device are not
    together and every device would fetch them all; here row by row.
    """
    return jnp.swapaxes(affine(jnp.swapaxes(x, 0, 1), kernel, bias), 0, 1)


class Trace(NamedTuple):
    """What the heads did at each step; of H heads the first half reads and the second writes."""

    weights: Float[Array, "T B H N"]
    reads: Float[Array, "T B R M"]
    adds: Float[Array, "T B R M"]


class LSTMController(nnx.Module):
    """Layers of LSTM; each sees the input and the layer below, and all are seen from above.

    Source: Graves 2013, "Generating Sequences with Recurrent Neural Networks", sec. 2, without
    peepholes. The states at the start are learned (Graves et al. 2014, sec. 4).

    Args:
        inputs: I, width of what is known of all steps beforehand.
        fed_back: F, width of what only the step before tells: what was read.
        hidden: H, width of a layer.
        layers: how many.
        key: makes the weights.
    """

    def __init__(self, inputs: int, fed_back: int, hidden: int, layers: int, *, key: PRNGKeyArray):
        self.hidden, self.width = hidden, layers * hidden
        self.input: nnx.List[nnx.Param] = nnx.List()
        self.recurrent: nnx.List[nnx.Param] = nnx.List()
        for n, layer_key in enumerate(jax.random.split(key, layers)):
            keys = jax.random.split(layer_key, 3)
            below = hidden if n else 0
            fan = inputs + below + fed_back
            entry = glorot(keys[0], (inputs, 4 * hidden), fan, hidden)
            rest = glorot(keys[1], (below + fed_back, 4 * hidden), fan, hidden)
            kernel = jnp.concatenate([orthogonal(keys[2], hidden, 4), rest])
            self.input.append(param(entry, ("embed", "mlp")))
            self.recurrent.append(param(kernel, ("embed", "mlp")))
        bias = jnp.zeros((layers, 4, hidden)).at[:, 1].set(1.0)  # forget gates start open
        self.bias = param(bias.reshape(layers, -1), (None, "mlp"))
        self.first = param(jnp.zeros((layers, 2, hidden)), (None, None, None))

    def weights(self) -> dict[str, Float[Array, "_ G"]]:
        """What multiplies states, what is fed back and inputs, at every step.

        Inputs are so few that a product of their own, for all steps at once, would cost more.
        """
        return {
            f"layer_{n}": with_bias(jnp.concatenate([recurrent[...], entry[...]]), bias)
            for n, (recurrent, entry, bias) in enumerate(
                zip(self.recurrent, self.input, self.bias[...], strict=True)
            )
        }

    def start(self, batch: int) -> list[tuple[Float[Array, "B H"], Float[Array, "B H"]]]:
        """Hidden and cell state of each layer before the first step."""
        rows = jnp.broadcast_to(
            self.first[...][:, :, None], (*self.first.shape[:2], batch, self.hidden)
        )
        return [(hidden, cell) for hidden, cell in rows]

    @staticmethod
    def step(product: Product, x: Float[Array, "B I"], fed_back: Float[Array, "B F"], carry):
        """One step: the new carry, and the hidden states of all layers."""
        new: list[tuple[Array, Array]] = []
        below: list[Array] = []
        for n, (hidden, cell) in enumerate(carry):
            seen = jnp.concatenate([hidden, *below, fed_back, x], axis=-1)
            new.append(lstm_cell(product(f"layer_{n}", with_one(seen)), cell))
            below = [new[-1][0]]
        return new, jnp.concatenate([hidden for hidden, _ in new], axis=-1)

    def __call__(self, x: Float[Array, "T B I"], steps: Int[Array, ""]) -> Float[Array, "T B C"]:
        """All steps, where nothing is fed back: layer by layer, each one's inputs at once."""

        def step(product, consts, carry, gates):
            del consts
            carry = lstm_cell(gates + product("own", carry[0]), carry[1])
            return carry, carry[0]

        states: list[Array] = []
        for recurrent, entry, bias, start in zip(
            self.recurrent, self.input, self.bias[...], self.start(x.shape[1]), strict=True
        ):
            own, below = jnp.split(recurrent[...], [self.hidden])
            gates = affine_by_rows(x, entry[...], bias)
            if states:
                gates += affine_by_rows(states[-1], below)
            states.append(scan(step, {"own": own}, None, start, gates, steps)[1])
        return jnp.concatenate(states, axis=-1)


class FeedForwardController(nnx.Module):
    """One hidden layer, `tanh(W x + U r + b)`: what is remembered is in the memory alone.

    Args: as those of `LSTMController`.
    """

    def __init__(self, inputs: int, fed_back: int, hidden: int, layers: int, *, key: PRNGKeyArray):
        if layers != 1:
            raise ValueError(f"a feed-forward controller has one layer, not {layers}")
        self.width = hidden
        keys = jax.random.split(key)
        fan = inputs + fed_back
        self.input = param(glorot(keys[0], (inputs, hidden), fan, hidden), ("embed", "mlp"))
        self.fed_back = param(glorot(keys[1], (fed_back, hidden), fan, hidden), ("embed", "mlp"))
        self.bias = param(jnp.zeros(hidden), ("mlp",))

    def weights(self) -> dict[str, Float[Array, "_ H"]]:
        """What multiplies what is fed back and inputs; see `LSTMController.weights`."""
        kernel = jnp.concatenate([self.fed_back[...], self.input[...]])
        return {"hidden": with_bias(kernel, self.bias[...])}

    def start(self, batch: int) -> tuple[()]:
        """It has no state."""
        del batch
        return ()

    @staticmethod
    def step(
        product: Product, x: Float[Array, "B I"], fed_back: Float[Array, "B F"], carry: tuple[()]
    ):
        """One step: no carry, and the hidden layer."""
        seen = jnp.concatenate([fed_back, x], axis=-1)
        return carry, jnp.tanh(product("hidden", with_one(seen)))


CONTROLLERS: dict[str, type[LSTMController | FeedForwardController]] = {
    "lstm": LSTMController,
    "feed_forward": FeedForwardController,
}


class Plain(nnx.Module):
    """An LSTM and its outputs: the baseline, a controller without a memory.

    Args: as those of `NTM`.
    """

    def __init__(self, *, inputs: int, outputs: int, hidden: int, layers: int, key: PRNGKeyArray):
        keys = jax.random.split(key)
        self.controller = LSTMController(inputs, 0, hidden, layers, key=keys[0])
        width = self.controller.width
        self.output = param(glorot(keys[1], (width, outputs), width, outputs), ("mlp", None))
        self.output_bias = param(jnp.zeros(outputs), (None,))

    def __call__(
        self, inputs: Float[Array, "T B I"], steps: Int[Array, ""], key: PRNGKeyArray
    ) -> Float[Array, "T B O"]:
        """Logits of every step; see `NTM`."""
        del key
        return affine_by_rows(
            self.controller(inputs, steps), self.output[...], self.output_bias[...]
        )


class NTM(nnx.Module):
    """A controller with heads on a memory.

    At each step the controller sees the input and what was read at the step before; then the heads
    move, read what the memory holds, and write to it. Outputs see the controller and what was read.
    Source: Graves et al. 2014, fig. 1 and sec. 3. What is read at the start and where the heads are
    is learned; so may be what the memory holds.

    Args:
        inputs: I, channels of the input.
        outputs: O, channels of the output.
        controller: `lstm` or `feed_forward`.
        hidden: width of its layers.
        layers: how many.
        heads: R, that read, and as many that write.
        rows: N, of the memory.
        width: M, of a row.
        radius: the furthest that a head can shift at a step.
        memory: what it holds at the start: one small `constant` everywhere, what is `learned`, or
            what is drawn at `random` for each sequence.
        key: makes the weights.
    """

    def __init__(
        self,
        *,
        inputs: int,
        outputs: int,
        controller: str,
        hidden: int,
        layers: int,
        heads: int,
        rows: int,
        width: int,
        radius: int,
        memory: MemoryStart,
        key: PRNGKeyArray,
    ):
        if controller not in CONTROLLERS:
            raise ValueError(
                f"controller must be one of {', '.join(CONTROLLERS)}, not {controller!r}"
            )
        if memory not in get_args(MemoryStart):
            known = ", ".join(get_args(MemoryStart))
            raise ValueError(f"memory must be one of {known}, not {memory!r}")
        if rows < 2 * radius + 1:
            raise ValueError(f"shifts of up to {radius} need more than {rows} rows of memory")
        keys = jax.random.split(key, 5)
        self.heads, self.rows, self.width, self.radius = heads, rows, width, radius
        self.memory = memory
        self.controller = CONTROLLERS[controller](
            inputs, heads * width, hidden, layers, key=keys[0]
        )
        # For every head: key, strength, gate, shift, sharpness. For those that write: erase, add.
        said = 2 * heads * (width + 3 + 2 * radius + 1) + heads * 2 * width
        seen = self.controller.width
        self.interface = param(glorot(keys[1], (seen, said), seen, said), ("mlp", None))
        self.interface_bias = param(jnp.zeros(said), (None,))
        seen += heads * width
        self.output = param(glorot(keys[2], (seen, outputs), seen, outputs), ("mlp", None))
        self.output_bias = param(jnp.zeros(outputs), (None,))
        self.first_reads = param(0.1 * jax.random.normal(keys[3], (heads, width)), (None, None))
        self.first_weights = param(jnp.zeros((2 * heads, rows)).at[:, 0].set(FOCUS), (None, None))
        if memory == "learned":
            self.first_memory = param(
                SPREAD * jax.random.normal(keys[4], (rows, width)), (None, None)
            )

    def __call__(
        self, inputs: Float[Array, "T B I"], steps: Int[Array, ""], key: PRNGKeyArray
    ) -> Float[Array, "T B O"]:
        """Logits of every step.

        Args:
            inputs: `[T, B, I]`.
            steps: how many of the T are taken; later logits mean nothing.
            key: draws the memory at the start, where that is random.
        """
        states, reads = self._run(inputs, steps, key, self._step)
        return self._logits(states, reads)

    def trace(
        self, inputs: Float[Array, "T B I"], steps: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Float[Array, "T B O"], Trace]:
        """Logits of every step, and what the heads did."""
        states, trace = self._run(inputs, steps, key, self._traced_step)
        return self._logits(states, trace.reads), trace

    def _run(self, inputs, steps, key, step):
        batch = inputs.shape[1]
        interface = with_bias(self.interface[...], self.interface_bias[...])
        weights = self.controller.weights() | {"interface": interface}
        rows = lambda x: jnp.broadcast_to(x, (batch, *x.shape))
        carry = (
            self.controller.start(batch),
            rows(self.first_reads[...]),
            rows(jax.nn.softmax(self.first_weights[...])),
            self._first_memory(batch, key),
        )
        return scan(step, weights, None, carry, inputs, steps)[1]

    def _first_memory(self, batch, key):
        shape = (batch, self.width, self.rows)
        if self.memory == "constant":
            return jnp.full(shape, CONSTANT)
        if self.memory == "learned":
            return jnp.broadcast_to(self.first_memory[...].T, shape)
        return SPREAD * jax.random.truncated_normal(key, -2.0, 2.0, shape)

    def _step(self, product, consts, carry, x):
        """One step: the new carry; the controller's outputs and what was read."""
        carry, (seen, trace) = self._traced_step(product, consts, carry, x)
        return carry, (seen, trace.reads)

    def _traced_step(self, product, consts, carry, x):
        """One step: the new carry; the controller's outputs and what the heads did."""
        del consts
        controller, reads, weights, memory = carry
        fed_back = reads.reshape(len(reads), -1)
        controller, seen = self.controller.step(product, x, fed_back, controller)
        addressing, erase, add = self._instructions(product("interface", with_one(seen)))
        weights = address(memory, weights, addressing)
        reads = read(weights[:, : self.heads], jnp.swapaxes(memory, 1, 2))
        memory = write(memory, weights[:, self.heads :], erase, add)
        return (controller, reads, weights, memory), (seen, Trace(weights, reads, add))

    def _instructions(self, said):
        """What the controller says, to each head in the range that is meant for it (sec. 3.3)."""
        batch, heads, width = len(said), self.heads, self.width
        shifts = 2 * self.radius + 1
        sizes = [2 * heads * n for n in (width, 1, 1, shifts, 1)] + [heads * width]
        ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
        key, strength, gate, shift, sharpness, erase, add = (
            part.reshape(batch, -1, n)
            for part, n in zip(
                jnp.split(said, ends, axis=-1), (width, 1, 1, shifts, 1, width, width), strict=True
            )
        )
        addressing = Addressing(
            key=jnp.tanh(key),
            strength=jax.nn.softplus(strength[..., 0]),
            gate=jax.nn.sigmoid(gate[..., 0]),
            shift=jax.nn.softmax(shift),
            sharpness=1.0 + jax.nn.softplus(sharpness[..., 0]),
        )
        return addressing, jax.nn.sigmoid(erase), jnp.tanh(add)

    def _logits(self, states, reads):
        seen = jnp.concatenate([states, reads.reshape(*reads.shape[:2], -1)], axis=-1)
        return affine_by_rows(seen, self.output[...], self.output_bias[...])
