"""The Neural Turing Machine of the benchmark in PyTorch: the same loss and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks import ntm
from models.ntm import NTM
from tests.models.test_recurrence_peers import torch_gate_order
from tests.models.tiny import unoptimized_jit, with_random_params

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers
STEPS, BATCH = 9, 3


def interface_to_torch(x, width):
    """Reorder rows from the parameters of all heads, one after another, to one head after another.

    Erase and add vectors come last in both orders.
    """
    heads, rest = np.split(np.asarray(x), [2 * (width + 1 + 1 + ntm.SHIFTS + 1)])
    parts = np.split(heads, 2 * np.cumsum([width, 1, 1, ntm.SHIFTS]))
    halves = [np.split(part, 2) for part in parts]
    return np.concatenate([half[head] for head in (0, 1) for half in halves] + [rest])


def to_torch(model):
    """Our weights with the names and in the layout of the PyTorch model."""
    controller, hidden = model.controller, model.controller.hidden
    order = torch_gate_order(hidden)
    recurrent, read = np.split(controller.recurrent[0][...][:, order], [hidden])
    inputs = np.concatenate([controller.input[0][...][:, order], read])
    yield "cell.weight_ih", inputs.T
    yield "cell.weight_hh", recurrent.T
    yield "cell.bias_ih", controller.bias[...][0, order]
    yield "interface.weight", interface_to_torch(model.interface[...].T, model.memory_width)
    yield "interface.bias", interface_to_torch(model.interface_bias[...], model.memory_width)
    yield "output.weight", model.output[...].T
    yield "output.bias", model.output_bias[...]
    yield "initial_state", model.controller.initial_state[...].swapaxes(0, 1)
    yield "initial_read", model.initial_read_vectors[...]
    yield "initial_weights", model.initial_weightings[...]


def test_outputs_and_gradients_equal_pytorch(monkeypatch):
    sizes = {"HIDDEN": 7, "MEMORY_ROWS": 6, "MEMORY_WIDTH": 4, "BITS": 3}
    for name, value in sizes.items():
        monkeypatch.setattr(ntm, name, value)
    options = {"controller": "lstm", "hidden": 7, "layers": 1, "heads": 1, "memory_rows": 6}
    options |= {"memory_width": 4, "max_shift": ntm.SHIFTS // 2, "memory_init": "constant"}
    options |= {"gate_bias": 0.0, "shift_bias": 0.0, "erase_bias": 0.0, "backward_clip": 0.0}
    create = lambda: NTM(inputs=5, outputs=4, **options, key=jax.random.key(0))
    graphdef, params = nnx.split(with_random_params(create))
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(STEPS, BATCH, 5)).astype(np.float32)
    weights = rng.normal(size=(STEPS, BATCH, 4)).astype(np.float32)

    def weighted_sum(params):
        model = nnx.merge(graphdef, params)
        logits = model(jnp.asarray(inputs), jnp.int32(STEPS), jax.random.key(0))
        return jnp.sum(logits * weights), logits

    gradients, logits = unoptimized_jit(jax.grad(weighted_sum, has_aux=True))(params)
    named = lambda x: {n: np.array(y) for n, y in to_torch(nnx.merge(graphdef, x))}
    theirs = ntm.torch_model().double()
    state = {name: torch.zeros_like(x) for name, x in theirs.state_dict().items()}
    theirs.load_state_dict(state | {n: torch.tensor(x) for n, x in named(params).items()})
    outputs = theirs(torch.tensor(inputs, dtype=torch.double))
    (outputs * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(logits, outputs.detach(), atol=1e-5)
    found = dict(theirs.named_parameters())
    for name, expected in named(gradients).items():
        np.testing.assert_allclose(found[name].grad, expected, atol=1e-5, rtol=1e-3, err_msg=name)
