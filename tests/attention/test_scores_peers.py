"""Scores against PyTorch: logits and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attention import additive, dot, general
from tests.models.tiny import unoptimized_jit

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

B, T, S, K, J = 2, 3, 4, 5, 6


def torch_dot(queries, keys):
    return torch.bmm(queries, keys.transpose(1, 2))


def torch_general(queries, keys, matrix):
    """`nn.Bilinear` of every pair of a query and a key."""
    layer = torch.nn.Bilinear(K, J, 1, bias=False)
    pairs = queries[:, :, None].expand(B, T, S, K), keys[:, None].expand(B, T, S, J)
    return torch.func.functional_call(layer, {"weight": matrix[None]}, pairs)[..., 0]


def torch_additive(queries, keys, v):
    """`nn.Linear` of the hidden layer of every pair."""
    layer = torch.nn.Linear(K, 1, bias=False)
    hidden = torch.tanh(queries[:, :, None] + keys[:, None])
    return torch.func.functional_call(layer, {"weight": v[None]}, hidden)[..., 0]


@pytest.mark.parametrize(
    "score, torch_score, key_width, param_shapes",
    [
        (dot, torch_dot, K, ()),
        (general, torch_general, J, ((K, J),)),
        (additive, torch_additive, K, ((K,),)),
    ],
)
def test_logits_and_gradients_equal_pytorch(score, torch_score, key_width, param_shapes):
    rng = np.random.default_rng(0)
    shapes = ((B, T, K), (B, S, key_width), *param_shapes)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    weight = rng.normal(size=(B, T, S)).astype(np.float32)

    @unoptimized_jit
    def run(arrays):
        logits, score_vjp = jax.vjp(score, *arrays)
        return logits, score_vjp(jnp.asarray(weight))

    logits, gradients = run([jnp.asarray(x) for x in arrays])
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    expected = torch_score(*tensors)
    expected.backward(torch.tensor(weight))
    np.testing.assert_allclose(logits, expected.detach(), atol=1e-5)
    for actual, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(actual, tensor.grad, atol=1e-5)
