"""Recurrent layers against PyTorch with the same weights: states and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.recurrence import GRU, LSTM, unroll
from tests.models.tiny import unoptimized_jit, with_random_params

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

B, T, D, H = 3, 5, 2, 4
LENGTHS = (5, 3, 1)


def torch_gate_order(hidden):
    """Return the indices of our gates (input, forget, output, candidate) in PyTorch's order."""
    return np.arange(4 * hidden).reshape(4, hidden)[[0, 1, 3, 2]].ravel()


def torch_lstm(x, weights):
    """`nn.LSTM` on one sequence."""
    order = torch_gate_order(H)
    layer = torch.nn.LSTM(D, H, batch_first=True)
    bias = weights["bias"][order]
    params = {
        "weight_ih_l0": weights["input"][:, order].T,
        "weight_hh_l0": weights["recurrent"][:, order].T,
        "bias_ih_l0": bias,
        "bias_hh_l0": torch.zeros_like(bias),
    }
    return torch.func.functional_call(layer, params, x[None])[0][0]


def torch_gru(x, weights):
    """Loop over Bahdanau et al. 2015, app. A.1.1, on one sequence.

    `nn.GRU` applies the reset gate after the recurrent matrix instead of before, so it cannot
    express this layer.
    """
    hidden, states = torch.zeros(H), []
    for row in x:
        z, r, new = (row @ weights["input"] + weights["bias"]).chunk(3)
        from_z, from_r = (hidden @ weights["gates"]).chunk(2)
        z, r = torch.sigmoid(z + from_z), torch.sigmoid(r + from_r)
        candidate = torch.tanh(new + (r * hidden) @ weights["candidate"])
        hidden = (1 - z) * hidden + z * candidate
        states.append(hidden)
    return torch.stack(states)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind, torch_layer", [(LSTM, torch_lstm), (GRU, torch_gru)])
def test_states_and_gradients_equal_pytorch(kind, torch_layer, reverse):
    rng = np.random.default_rng(0)
    x, weight = (rng.normal(size=(B, T, n)).astype(np.float32) for n in (D, H))
    valid = np.arange(T) < np.array(LENGTHS)[:, None]
    weight *= valid[..., None]
    graphdef, params = nnx.split(with_random_params(lambda: kind(D, H, key=jax.random.key(0))))

    @unoptimized_jit
    def run(params, x):
        def function(params, x):
            layer = nnx.merge(graphdef, params)
            return unroll(layer, x, jnp.asarray(valid), reverse=reverse)[0]

        outputs, vjp = jax.vjp(function, params, x)
        return outputs, vjp(jnp.asarray(weight))

    outputs, (d_params, d_x) = run(params, x)
    tensor = torch.tensor(x, requires_grad=True)
    weights = {
        name: torch.tensor(np.asarray(value), requires_grad=True)
        for name, value in nnx.to_pure_dict(params).items()
    }
    for b, length in enumerate(LENGTHS):
        flip = lambda rows: rows.flip(0) if reverse else rows
        expected = flip(torch_layer(flip(tensor[b, :length]), weights))
        np.testing.assert_allclose(outputs[b, :length], expected.detach(), atol=1e-5)
        expected.backward(torch.tensor(weight[b, :length]))
    np.testing.assert_allclose(d_x, tensor.grad, atol=1e-5)
    gradients = nnx.to_pure_dict(d_params)
    assert gradients.keys() == weights.keys()
    for name, torch_weight in weights.items():
        np.testing.assert_allclose(gradients[name], torch_weight.grad, atol=1e-5, err_msg=name)
