"""The pointer network of the benchmark in PyTorch: the same loss and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks import pointer
from tests.models.test_recurrence_peers import torch_gate_order
from tests.models.tiny import unoptimized_jit

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers
HIDDEN = 12


def lstm_to_torch(name, lstm):
    """Weights of one LSTM."""
    order = torch_gate_order(HIDDEN)
    yield f"{name}.weight_ih_l0", lstm.input[...][:, order].T
    yield f"{name}.weight_hh_l0", lstm.recurrent[...][:, order].T
    yield f"{name}.bias_ih_l0", lstm.bias[...][order]


def to_torch(model):
    """Our weights with the names and in the layout of the PyTorch model, without start tokens."""
    yield from lstm_to_torch("encoder", model.encoder.lstm)
    yield from lstm_to_torch("decoder", model.decoder)
    [scorer] = model.scorers
    yield "query.weight", scorer.query[...].T
    yield "key.weight", scorer.key[...].T
    yield "vector", scorer.vector[...]


def test_loss_and_gradients_equal_pytorch(monkeypatch):
    monkeypatch.setattr(pointer, "HIDDEN", HIDDEN)
    monkeypatch.setattr(pointer, "BATCH", 4)
    task, batch = pointer.our_task(), pointer.batches()[0]
    params = task.init_params(jax.random.key(0))
    # The start token of PyTorch is the point (0, 0), ours the pre-activations at this point.
    params["start_token"][...] = params["decoder"]["bias"][...]

    def mean_loss(params):
        total, count, _ = task.loss(params, jax.tree.map(jnp.asarray, batch), jax.random.key(0))
        return total / count

    value, gradients = unoptimized_jit(jax.value_and_grad(mean_loss))(params)
    named = lambda x: {n: np.array(y) for n, y in to_torch(nnx.merge(task.graphdef, x))}
    theirs = pointer.torch_model().double()
    state = {name: torch.zeros_like(x) for name, x in theirs.state_dict().items()}
    theirs.load_state_dict(state | {n: torch.tensor(x) for n, x in named(params).items()})
    points, choices = (torch.tensor(batch[name]) for name in ("points", "choices"))
    loss = theirs(points.double(), choices.long())
    loss.backward()
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    bias = gradients["decoder"]["bias"]
    bias[...] += gradients["start_token"][...]
    found = dict(theirs.named_parameters())
    for name, expected in named(gradients).items():
        np.testing.assert_allclose(found[name].grad, expected, atol=1e-6, rtol=1e-4, err_msg=name)
