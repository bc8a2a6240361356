"""The Transformer, its loss and its training curve against PyTorch's, from the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from models import Transformer
from models.layers import sinusoids
from tasks.cross_entropy import linear_cross_entropy
from tests.models.tiny import SIZES as TINY
from tests.models.tiny import SOURCE, TARGET, VOCABULARY, transformer, unoptimized_jit
from training import optimizer

torch = pytest.importorskip("torch")
# PyTorch warns that it does not use nested tensors for pre-norm layers and an odd number of heads.
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore:enable_nested_tensor")]
WIDTH, HIDDEN, HEADS, LAYERS, SMOOTHING = 12, 20, 3, 2, 0.1
PAD, BOS = 0, 1
SIZES = {
    "width": WIDTH,
    "hidden": HIDDEN,
    "heads": HEADS,
    "key_width": WIDTH // HEADS,
    "value_width": WIDTH // HEADS,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
}


def attention_weights(ours, name):
    """PyTorch stacks the transposed query, key and value matrices in one weight."""
    kernels = [ours[x].reshape(len(ours[x]), -1).T for x in ("query", "key", "value")]
    biases = [ours[f"{x}_bias"].reshape(-1) for x in ("query", "key", "value")]
    yield f"{name}.in_proj_weight", np.concatenate(kernels)
    yield f"{name}.in_proj_bias", np.concatenate(biases)
    yield f"{name}.out_proj.weight", ours["output"].reshape(-1, len(ours["output_bias"])).T
    yield f"{name}.out_proj.bias", ours["output_bias"]


def norm_weights(ours, name):
    yield f"{name}.weight", ours["gain"]
    yield f"{name}.bias", ours["bias"]


def layer_weights(ours, name):
    attentions = {"self_attn": "attention", "multihead_attn": "cross"}
    blocks = [(theirs, x) for theirs, x in attentions.items() if x in ours]
    for theirs, x in blocks:
        yield from attention_weights(ours[x], f"{name}.{theirs}")
    for n, x in enumerate([*(x for _, x in blocks), "feed_forward"], start=1):
        yield from norm_weights(ours[f"{x}_residual"]["layer_norm"], f"{name}.norm{n}")
    hidden = ours["feed_forward"]
    yield f"{name}.linear1.weight", hidden["kernel_in"].T
    yield f"{name}.linear1.bias", hidden["bias_in"]
    yield f"{name}.linear2.weight", hidden["kernel_out"]
    yield f"{name}.linear2.bias", hidden["bias_out"]


def to_torch(params):
    """Our weights, or their gradients, with the names and in the layout of `nn.Transformer`."""
    ours = jax.tree.map(np.asarray, nnx.to_pure_dict(params))
    theirs = {}
    for stack in ("encoder", "decoder"):
        for n, layer in ours[stack].items():
            theirs |= layer_weights(layer, f"{stack}.layers.{n}")
        if f"{stack}_norm" in ours:
            theirs |= norm_weights(ours[f"{stack}_norm"], f"{stack}.norm")
    return ours["embedding"]["table"], theirs


def build(norm, params):
    """PyTorch's model and its embedding table, with our weights."""
    model = torch.nn.Transformer(
        WIDTH,
        HEADS,
        LAYERS,
        LAYERS,
        HIDDEN,
        dropout=0.0,
        activation="relu",
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=norm == "pre",
    )
    if norm == "post":  # the paper has no norm after the last layer's own
        model.encoder.norm = model.decoder.norm = None
    table, weights = to_torch(params)
    model.load_state_dict({name: torch.tensor(x) for name, x in weights.items()}, strict=True)
    return model, torch.nn.Parameter(torch.tensor(table))


def torch_states(model, table, source, target):
    """Embeddings times sqrt(D) plus positions, targets shifted right (sec. 3.4 and 3.5)."""
    shifted = torch.nn.functional.pad(target[:, :-1], (1, 0), value=BOS)

    def embed(tokens):
        positions = torch.tensor(np.asarray(sinusoids(tokens.shape[1], WIDTH)))
        return table[tokens] * WIDTH**0.5 + positions

    return model(
        embed(source),
        embed(shifted),
        tgt_mask=torch.triu(torch.ones(len(target[0]), len(target[0]), dtype=torch.bool), 1),
        src_key_padding_mask=source == PAD,
        memory_key_padding_mask=source == PAD,
    )


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_states_loss_and_all_gradients_equal_pytorch(norm):
    graphdef, params = transformer(norm=norm, **SIZES)

    @unoptimized_jit
    def ours(params):
        def loss(params):
            model = nnx.merge(graphdef, params)
            states, _ = model.decode(TARGET, model.encode(SOURCE)[0])
            table = model.output_embedding
            nats = linear_cross_entropy(states, table, TARGET, TARGET != PAD, SMOOTHING)
            return nats, states

        return jax.value_and_grad(loss, has_aux=True)(params)

    model, table = build(norm, params)
    source, target = (torch.tensor(np.asarray(x, np.int64)) for x in (SOURCE, TARGET))
    expected_states = torch_states(model, table, source, target)
    nats = torch.nn.functional.cross_entropy(
        (expected_states @ table.T).reshape(-1, VOCABULARY),
        target.reshape(-1),
        ignore_index=PAD,
        label_smoothing=SMOOTHING,
        reduction="sum",
    )
    nats.backward()

    (value, states), gradients = ours(params)
    real = np.asarray(TARGET != PAD)  # the states at padding differ, and are not used
    np.testing.assert_allclose(states[real], expected_states.detach().numpy()[real], atol=1e-4)
    np.testing.assert_allclose(value, nats.detach(), rtol=1e-5)
    d_table, d_weights = to_torch(gradients)
    np.testing.assert_allclose(d_table, table.grad, atol=1e-4, rtol=1e-4)
    parameters = dict(model.named_parameters())
    assert parameters.keys() == d_weights.keys()
    for name, parameter in parameters.items():
        np.testing.assert_allclose(
            d_weights[name], parameter.grad, atol=1e-4, rtol=1e-4, err_msg=name
        )


def test_training_curve_equals_pytorch():
    """Twenty Adam steps start from the same weights and use the same batches, without dropout."""
    steps, rate, b1, b2, eps = 20, 3e-3, 0.9, 0.98, 1e-9
    rng = np.random.default_rng(0)
    sources = rng.integers(3, VOCABULARY, (4, 8, 6))
    targets = sources[..., ::-1].copy()  # a mapping that can be learned: reversal
    sources[:, ::2, 4:] = targets[:, 1::2, 3:] = PAD
    graphdef, params = nnx.split(Transformer(**TINY | SIZES, key=jax.random.key(0)))
    adam = optimizer.adam(
        schedule="constant", learning_rate=rate, warmup_steps=0, b1=b1, b2=b2, eps=eps, clip=0.0
    )

    @unoptimized_jit
    def update(params, state, source, target):
        def loss(params):
            model = nnx.merge(graphdef, params)
            states, _ = model.decode(target, model.encode(source)[0])
            valid = target != PAD
            nats = linear_cross_entropy(states, model.output_embedding, target, valid, SMOOTHING)
            return nats / valid.sum()

        nats, gradients = jax.value_and_grad(loss)(params)
        updates, state = adam.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, nats

    model, table = build("post", params)
    theirs = torch.optim.Adam([table, *model.parameters()], rate, (b1, b2), eps)
    state, ours, expected = adam.init(params), [], []
    for step in range(steps):
        source, target = sources[step % 4], targets[step % 4]
        params, state, nats = update(params, state, jnp.asarray(source), jnp.asarray(target))
        ours.append(float(nats))
        states = torch_states(model, table, torch.tensor(source), torch.tensor(target))
        loss = torch.nn.functional.cross_entropy(
            (states @ table.T).reshape(-1, VOCABULARY),
            torch.tensor(target).reshape(-1),
            ignore_index=PAD,
            label_smoothing=SMOOTHING,
        )
        theirs.zero_grad()
        loss.backward()
        theirs.step()
        expected.append(loss.item())
    assert expected[-1] < expected[0] - 0.3
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_pytorch(smoothing):
    rng = np.random.default_rng(0)
    states, table = (rng.normal(size=s).astype(np.float32) for s in ((4, 6, 5), (11, 5)))
    labels = rng.integers(0, 11, (4, 6))
    labels[:2, 3:] = PAD

    ours = unoptimized_jit(jax.value_and_grad(linear_cross_entropy, (0, 1)), static_argnums=(4, 5))
    value, gradients = ours(
        jnp.asarray(states), jnp.asarray(table), jnp.asarray(labels), labels != PAD, smoothing, 8
    )
    theirs = [torch.tensor(x, requires_grad=True) for x in (states, table)]
    nats = torch.nn.functional.cross_entropy(
        (theirs[0] @ theirs[1].T).reshape(-1, 11),
        torch.tensor(labels).reshape(-1),
        ignore_index=PAD,
        label_smoothing=smoothing,
        reduction="sum",
    )
    nats.backward()
    np.testing.assert_allclose(value, nats.detach(), rtol=1e-5)
    for found, tensor in zip(gradients, theirs, strict=True):
        np.testing.assert_allclose(found, tensor.grad, atol=1e-5)
