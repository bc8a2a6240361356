"""Scores beside PyTorch's own operations, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention import additive, dot, general
from tests.models.tiny import quick_jit

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

B, T, S, K, J = 2, 3, 4, 5, 6


def theirs_dot(queries, keys):
    return torch.bmm(queries, keys.transpose(1, 2))


def theirs_general(queries, keys, matrix):
    """`nn.Bilinear` of every pair of a query and a key."""
    layer = torch.nn.Bilinear(K, J, 1, bias=False)
    pairs = queries[:, :, None].expand(B, T, S, K), keys[:, None].expand(B, T, S, J)
    return torch.func.functional_call(layer, {"weight": matrix[None]}, pairs)[..., 0]


def theirs_additive(queries, keys, vector):
    """`nn.Linear` of the hidden layer of every pair."""
    layer = torch.nn.Linear(K, 1, bias=False)
    hidden = torch.tanh(queries[:, :, None] + keys[:, None])
    return torch.func.functional_call(layer, {"weight": vector[None]}, hidden)[..., 0]


@pytest.mark.parametrize(
    "score, theirs, width, shapes",
    [
        (dot, theirs_dot, K, ()),
        (general, theirs_general, J, ((K, J),)),
        (additive, theirs_additive, K, ((K,),)),
    ],
)
def test_logits_and_all_gradients_equal_pytorch(score, theirs, width, shapes):
    rng = np.random.default_rng(0)
    shapes = ((B, T, K), (B, S, width), *shapes)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    weight = rng.normal(size=(B, T, S)).astype(np.float32)

    @quick_jit
    def ours(arrays):
        logits, pull = jax.vjp(score, *arrays)
        return logits, pull(jnp.asarray(weight))

    logits, gradients = ours([jnp.asarray(x) for x in arrays])
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    expected = theirs(*tensors)
    expected.backward(torch.tensor(weight))
    np.testing.assert_allclose(logits, expected.detach(), atol=1e-5)
    for found, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(found, tensor.grad, atol=1e-5)
