"""Recurrent layers beside PyTorch's, values and gradients, with the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models.recurrence import GRU, LSTM, run
from tests.models.tiny import filled, quick_jit

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

B, T, D, H = 3, 5, 2, 4
LENGTHS = (5, 3, 1)


def lstm(x, weights):
    """`nn.LSTM` of one sentence; its gates stand in the order input, forget, candidate, output."""

    def reordered(name):
        enter, keep, leave, candidate = weights[name].chunk(4, dim=-1)
        return torch.cat([enter, keep, candidate, leave], dim=-1)

    layer = torch.nn.LSTM(D, H, batch_first=True)
    bias = reordered("bias")
    given = {
        "weight_ih_l0": reordered("input").T,
        "weight_hh_l0": reordered("recurrent").T,
        "bias_ih_l0": bias,
        "bias_hh_l0": torch.zeros_like(bias),
    }
    return torch.func.functional_call(layer, given, x[None])[0][0]


def gru(x, weights):
    """A loop of Bahdanau et al. 2015, app. A.1.1: the reset gate comes before its matrix.

    In `nn.GRU` it comes after, so that no choice of weights makes the two equal.
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
@pytest.mark.parametrize("kind, theirs", [(LSTM, lstm), (GRU, gru)])
def test_states_and_all_gradients_equal_pytorch(kind, theirs, reverse):
    rng = np.random.default_rng(0)
    x, weight = (rng.normal(size=(B, T, n)).astype(np.float32) for n in (D, H))
    valid = np.arange(T) < np.array(LENGTHS)[:, None]
    weight *= valid[..., None]
    graph, params = nnx.split(filled(lambda: kind(D, H, key=jax.random.key(0))))

    @quick_jit
    def ours(params, x):
        seen = jnp.asarray(valid)
        form = lambda params, x: run(nnx.merge(graph, params), x, seen, reverse=reverse)[0]
        outputs, pull = jax.vjp(form, params, x)
        return outputs, pull(jnp.asarray(weight))

    outputs, (d_params, d_x) = ours(params, jnp.asarray(x))
    tensor = torch.tensor(x, requires_grad=True)
    weights = {
        name: torch.tensor(np.asarray(value), requires_grad=True)
        for name, value in nnx.to_pure_dict(params).items()
    }
    for b, length in enumerate(LENGTHS):
        turn = lambda rows: rows.flip(0) if reverse else rows
        expected = turn(theirs(turn(tensor[b, :length]), weights))
        np.testing.assert_allclose(outputs[b, :length], expected.detach(), atol=1e-5)
        expected.backward(torch.tensor(weight[b, :length]))
    np.testing.assert_allclose(d_x, tensor.grad, atol=1e-5)
    found = nnx.to_pure_dict(d_params)
    assert found.keys() == weights.keys()
    for name, their in weights.items():
        np.testing.assert_allclose(found[name], their.grad, atol=1e-5, err_msg=name)
