"""Neural Turing Machine (Graves et al. 2014) and its LSTM baseline.

Arrays are time-major, `[T, B, ...]`, as they are inputs and outputs of a scan over time.
"""

import itertools
import math
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from attention import read
from attention.memory import HeadParameters, address, write
from models.device_batch import example_keys
from models.gradient_clipping import clip_step
from models.layers import glorot, param
from models.ntm.controllers import CONTROLLERS, LSTMController, affine_time_major
from models.recurrence import append_bias, append_one, rnn_scan

MemoryInit = Literal["constant", "learned", "random"]
INITIAL_CONSTANT = 1e-6  # every memory cell of the "constant" initialization (Collier & Beel 2018)
INITIAL_STDDEV = 0.5  # of memory cells, for "learned" and (before truncation) "random"
INITIAL_FOCUS = 10.0  # initial logit of row 0 in the learned initial weightings


class MemoryAccess(NamedTuple):
    """Memory access over time (fig. 6) of R read heads and R write heads."""

    weightings: Float[Array, "T B H N"]  # of the H = 2R heads, read heads first
    read_vectors: Float[Array, "T B R M"]
    add_vectors: Float[Array, "T B R M"]


class LSTMBaseline(nnx.Module):
    """LSTM controller without a memory, the baseline of the paper.

    Args: as for `NTM`.
    """

    def __init__(
        self,
        *,
        inputs: int,
        outputs: int,
        hidden: int,
        layers: int,
        backward_clip: float,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key)
        self.backward_clip = backward_clip
        self.controller = LSTMController(inputs, 0, hidden, layers, key=keys[0])
        width = self.controller.width
        self.output = param(glorot(keys[1], (width, outputs), width, outputs), ("mlp", None))
        self.output_bias = param(jnp.zeros(outputs), (None,))

    def __call__(
        self, inputs: Float[Array, "T B I"], steps: Int[Array, ""], key: PRNGKeyArray
    ) -> Float[Array, "T B O"]:
        """Logits of every step; see `NTM.__call__` for the arguments."""
        del key
        states = self.controller(inputs, steps, self.backward_clip)
        return affine_time_major(states, self.output[...], self.output_bias[...])


class NTM(nnx.Module):
    """Neural Turing Machine: a controller with read and write heads on a memory.

    At each step the controller receives the input and the read vectors of the previous step. The
    heads then compute their weightings, the read heads read, and the write heads write. The output
    is a linear function of the controller output and the read vectors. The initial read vectors and
    weightings are learned.

    Source: Graves et al. 2014, fig. 1 and sec. 3. The paper does not state whether the read heads
    read before or after the write of the same step, or how keys and add vectors are bounded.

    Args:
        inputs: I, channels of the input.
        outputs: O, channels of the output.
        controller: `lstm` or `feed_forward`.
        hidden: width of a controller layer.
        layers: number of controller layers.
        heads: R, number of read heads and of write heads.
        memory_rows: N.
        memory_width: M.
        max_shift: largest shift of a head per step.
        memory_init: initial memory: a small `constant`, `learned`, or sampled at `random` for each
            sequence.
        gate_bias: initial bias of the interpolation gates; with a negative one, heads prefer their
            previous weighting to content. The paper does not state the initialization.
        shift_bias: initial bias of shift 0; with a positive one, heads stay where they are.
        erase_bias: initial bias of the erase vectors; with a negative one, heads erase little.
        backward_clip: bound of the gradient components of a step's state and products during the
            backward pass (10 in sec. 4.6); 0 for none.
        key: PRNG key of the initial weights.

    Raises:
        ValueError: if `controller`, `layers` or `memory_init` is invalid, or the memory has fewer
            rows than there are shifts.
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
        memory_rows: int,
        memory_width: int,
        max_shift: int,
        memory_init: MemoryInit,
        gate_bias: float,
        shift_bias: float,
        erase_bias: float,
        backward_clip: float,
        key: PRNGKeyArray,
    ):
        if controller not in CONTROLLERS:
            raise ValueError(
                f"controller must be one of {', '.join(CONTROLLERS)}, not {controller!r}"
            )
        if memory_init not in get_args(MemoryInit):
            known = ", ".join(get_args(MemoryInit))
            raise ValueError(f"memory_init must be one of {known}, not {memory_init!r}")
        if memory_rows < 2 * max_shift + 1:
            raise ValueError(
                f"shifts of up to {max_shift} need at least {2 * max_shift + 1} memory rows, "
                f"not {memory_rows}"
            )
        keys = jax.random.split(key, 5)
        self.heads, self.max_shift, self.memory_init = heads, max_shift, memory_init
        self.backward_clip = backward_clip
        self.memory_rows, self.memory_width = memory_rows, memory_width
        self.controller = CONTROLLERS[controller](
            inputs, heads * memory_width, hidden, layers, key=keys[0]
        )
        bias = self._initial_interface_bias(gate_bias, shift_bias, erase_bias)
        width, size = self.controller.width, len(bias)
        self.interface = param(glorot(keys[1], (width, size), width, size), ("mlp", None))
        self.interface_bias = param(bias, (None,))
        width += heads * memory_width
        self.output = param(glorot(keys[2], (width, outputs), width, outputs), ("mlp", None))
        self.output_bias = param(jnp.zeros(outputs), (None,))
        self.initial_read_vectors = param(
            0.1 * jax.random.normal(keys[3], (heads, memory_width)), (None, None)
        )
        self.initial_weightings = param(
            jnp.zeros((2 * heads, memory_rows)).at[:, 0].set(INITIAL_FOCUS), (None, None)
        )
        if memory_init == "learned":
            self.initial_memory = param(
                INITIAL_STDDEV * jax.random.normal(keys[4], (memory_rows, memory_width)),
                (None, None),
            )

    def __call__(
        self, inputs: Float[Array, "T B I"], steps: Int[Array, ""], key: PRNGKeyArray
    ) -> Float[Array, "T B O"]:
        """Logits of every step.

        Args:
            inputs: `[T, B, I]`.
            steps: number of steps to run; later logits are undefined.
            key: PRNG key of a random initial memory.
        """
        states, read_vectors = self._scan(inputs, steps, key, self._step)
        return self._logits(states, read_vectors)

    def with_memory_access(
        self, inputs: Float[Array, "T B I"], steps: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Float[Array, "T B O"], MemoryAccess]:
        """Logits and memory access of every step; see `__call__` for the arguments."""
        states, memory_access = self._scan(inputs, steps, key, self._step_with_memory_access)
        return self._logits(states, memory_access.read_vectors), memory_access

    def _interface_shapes(self) -> dict[str, tuple[int, int]]:
        """Return the shapes [heads, numbers per head] of the head parameters, in their order."""
        width, shifts = self.memory_width, 2 * self.max_shift + 1
        sizes = {"key": width, "strength": 1, "gate": 1, "shift": shifts, "sharpness": 1}
        shapes = {name: (2 * self.heads, n) for name, n in sizes.items()}
        return shapes | dict.fromkeys(("erase", "add"), (self.heads, width))

    def _initial_interface_bias(self, gate_bias, shift_bias, erase_bias):
        bias = {name: jnp.zeros(shape) for name, shape in self._interface_shapes().items()}
        bias["gate"] += gate_bias
        bias["shift"] = bias["shift"].at[:, self.max_shift].set(shift_bias)
        bias["erase"] += erase_bias
        return jnp.concatenate([x.reshape(-1) for x in bias.values()])

    def _scan(self, inputs, steps, key, step):
        batch = inputs.shape[1]
        interface = append_bias(self.interface[...], self.interface_bias[...])
        weights = self.controller.weights() | {"interface": interface}
        broadcast = lambda x: jnp.broadcast_to(x, (batch, *x.shape))
        carry = (
            self.controller.init_carry(batch),
            broadcast(self.initial_read_vectors[...]),
            broadcast(jax.nn.softmax(self.initial_weightings[...])),
            self._init_memory(batch, key),
        )
        step = clip_step(step, self.backward_clip)
        return rnn_scan(step, weights, None, carry, inputs.astype(jnp.float32), steps)[1]

    def _init_memory(self, batch, key):
        shape = (batch, self.memory_width, self.memory_rows)
        if self.memory_init == "constant":
            return jnp.full(shape, INITIAL_CONSTANT, jnp.float32)
        if self.memory_init == "learned":
            return jnp.broadcast_to(self.initial_memory[...].T, shape)
        sample = lambda key: jax.random.truncated_normal(key, -2.0, 2.0, shape[1:], jnp.float32)
        return INITIAL_STDDEV * jax.vmap(sample)(example_keys(key, batch))

    def _step(self, matmul, consts, carry, x):
        """Compute one step and return the carry, the controller output and the read vectors."""
        carry, (state, memory_access) = self._step_with_memory_access(matmul, consts, carry, x)
        return carry, (state, memory_access.read_vectors)

    def _step_with_memory_access(self, matmul, consts, carry, x):
        """Compute one step and return the carry, the controller output and the memory access."""
        del consts
        controller, read_vectors, weightings, memory = carry
        flat = read_vectors.reshape(len(read_vectors), -1)
        controller, state = self.controller.step(matmul, x, flat, controller)
        heads, erase, add = self._head_parameters(matmul("interface", append_one(state)))
        weightings = address(memory, weightings, heads)
        read_vectors = read(weightings[:, : self.heads], jnp.swapaxes(memory, 1, 2))
        memory = write(memory, weightings[:, self.heads :], erase, add)
        carry = (controller, read_vectors, weightings, memory)
        return carry, (state, MemoryAccess(weightings, read_vectors, add))

    def _head_parameters(self, preactivations):
        """Parameters of all heads, in the ranges of sec. 3.3; key and add vectors in (-1, 1)."""
        shapes = self._interface_shapes().values()
        *ends, _ = itertools.accumulate(map(math.prod, shapes))
        parts = jnp.split(preactivations, ends, axis=-1)
        key, strength, gate, shift, sharpness, erase, add = (
            part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)
        )
        parameters = HeadParameters(
            key=jnp.tanh(key),
            strength=jax.nn.softplus(strength[..., 0]),
            gate=jax.nn.sigmoid(gate[..., 0]),
            shift=jax.nn.softmax(shift),
            sharpness=1.0 + jax.nn.softplus(sharpness[..., 0]),
        )
        return parameters, jax.nn.sigmoid(erase), jnp.tanh(add)

    def _logits(self, states, read_vectors):
        flat = read_vectors.reshape(*read_vectors.shape[:2], -1)
        inputs = jnp.concatenate([states, flat], axis=-1)
        return affine_time_major(inputs, self.output[...], self.output_bias[...])
