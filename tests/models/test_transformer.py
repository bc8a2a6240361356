"""The Transformer: who sees whom, decoding step by step, sizes of the paper, and that it learns."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from models import Transformer
from models.beam_search import beam_search
from models.transformer import Residual
from tests.models.tiny import (
    SIZES,
    SOURCE,
    TARGET,
    VOCABULARY,
    logits,
    quick_jit,
    run,
    transformer,
)

PAD, BOS, EOS = 0, 1, 2
T = TARGET.shape[1]


def change(tokens, where, token):
    tokens = np.array(tokens)
    tokens[where] = token
    return tokens


def pad(tokens, columns):
    return np.pad(tokens, ((0, 0), (0, columns)), constant_values=PAD)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_causality_by_gradient(norm):
    """The state at t moves with the embeddings of the targets before t, and with no others.

    No target token stands twice or in the source, so its row of the table is its embedding alone.
    """
    graphdef, params = transformer(norm=norm)
    source, target = SOURCE[:1], TARGET[:1]
    probe = np.cos(np.arange(SIZES["width"]))

    @quick_jit
    def slopes(params):
        def probed(params):
            model = nnx.merge(graphdef, params)
            memory, _ = model.encode(source)
            return model.decode(target, memory)[0][0] @ probe

        return jax.jacrev(probed)(params)["embedding"]["table"][...]

    influence = abs(np.asarray(slopes(params))).sum(-1)[:, np.asarray(target[0])]  # [state, target]
    past = np.tri(T, T, k=-1, dtype=bool)
    assert (influence[~past] == 0).all()
    assert (influence[past] > 1e-6).all()


@pytest.mark.parametrize("position", range(T))
def test_a_target_changes_later_logits_only(position):
    target = np.where(TARGET == PAD, 10, TARGET)  # no padding, at which there is nothing to see
    before = logits(SOURCE, target)
    after = logits(SOURCE, change(target, (slice(None), position), 7))
    np.testing.assert_array_equal(after[:, : position + 1], before[:, : position + 1])
    assert (abs(after - before)[:, position + 1 :].max(-1) > 1e-6).all()


def test_every_source_token_reaches_every_logit():
    before = logits(SOURCE, TARGET)
    for position in range(SOURCE.shape[1]):
        moved = abs(logits(change(SOURCE, (0, position), 7), TARGET) - before)
        assert (moved[0].max(-1) > 1e-6).all()
        assert not moved[1].any()


def test_padding_changes_nothing():
    expected = logits(SOURCE, TARGET)
    found = logits(pad(SOURCE, 3), pad(TARGET, 2))
    np.testing.assert_allclose(found[:, :T], expected, atol=1e-5)


def test_a_source_of_nothing_but_padding_is_finite():
    assert np.isfinite(logits(change(SOURCE, 1, PAD), TARGET)).all()


def test_sentences_do_not_see_each_other():
    together = logits(SOURCE, TARGET)
    for b in range(2):
        alone = logits(SOURCE[b : b + 1], TARGET[b : b + 1])
        np.testing.assert_allclose(alone[0], together[b], atol=1e-5)


def test_attention_weights_are_distributions_over_what_may_be_seen():
    attention = jax.device_get(run(*transformer(), SOURCE, TARGET)[1])
    assert [len(layers) for layers in attention] == [1, 1, 1]
    real = np.asarray(SOURCE != PAD)
    for layers in attention:
        for weights in layers:
            np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    for weights in [*attention.encoder, *attention.cross]:
        seen = np.broadcast_to(real[:, None, None], weights.shape)
        np.testing.assert_array_equal(weights > 0, seen)
    for weights in attention.decoder:
        np.testing.assert_array_equal(weights > 0, np.broadcast_to(np.tri(T) > 0, weights.shape))


def test_blockwise_model_equals_the_plain_one_in_logits_and_gradients():
    probe = np.cos(np.arange(2 * T * VOCABULARY)).reshape(2, T, VOCABULARY)

    def logits_and_gradients(implementation):
        graphdef, params = transformer(implementation=implementation)

        @quick_jit
        def both(params):
            def weighed(params):
                found = nnx.merge(graphdef, params)(SOURCE, TARGET)[0]
                return jnp.sum(probe * found), found

            return jax.grad(weighed, has_aux=True)(params)

        return jax.tree.leaves(both(params))

    for one, other in zip(
        logits_and_gradients("blockwise"), logits_and_gradients("xla"), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)


def test_the_blockwise_model_shows_the_weights_of_the_plain_one():
    def weights(implementation):
        graphdef, params = transformer(implementation=implementation)
        return quick_jit(lambda params: nnx.merge(graphdef, params).attention(SOURCE, TARGET))(
            params
        )

    found, expected = weights("blockwise"), run(*transformer(), SOURCE, TARGET)[1]
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("norm, layers", [("post", 2), ("pre", 1)])
def test_decoding_step_by_step_equals_the_full_pass(norm, layers):
    """Three beams of each sentence hold different prefixes and share the sentence's memory."""
    beams = 3
    targets = jnp.asarray(np.random.default_rng(0).integers(2, VOCABULARY, (2, beams, T)))
    graphdef, params = transformer(norm=norm, decoder_layers=layers)

    @quick_jit
    def by_steps(params):
        model = nnx.merge(graphdef, params)
        memory, _ = model.encode(SOURCE)
        shifted = jnp.pad(targets[..., :-1], ((0, 0), (0, 0), (1, 0)), constant_values=BOS)

        def step(cache, inputs):
            position, tokens = inputs
            found, cache = model.decode_step(tokens, cache, memory, position)
            return cache, found

        cache = model.init_cache(memory, beams=beams, length=T + 2)
        return jax.lax.scan(step, cache, (jnp.arange(T), jnp.moveaxis(shifted, -1, 0)))[1]

    rows = targets.reshape(2 * beams, T)
    expected = run(graphdef, params, np.repeat(SOURCE, beams, axis=0), rows)[0]
    found = np.moveaxis(by_steps(params), 0, 2).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_bfloat16_is_close_to_float32():
    exact, rounded = logits(SOURCE, TARGET), logits(SOURCE, TARGET, dtype="bfloat16")
    assert rounded.dtype == np.float32
    error = abs(rounded - exact).max() / abs(exact).max()
    assert 1e-4 < error < 0.05  # 8 bits of mantissa: rounded, but not wrong


def test_dropout_follows_the_key():
    plain = logits(SOURCE, TARGET)
    one, same, other = (
        logits(SOURCE, TARGET, jax.random.key(seed), dropout=0.5) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert abs(one - other).max() > 0.1
    np.testing.assert_array_equal(logits(SOURCE, TARGET, dropout=0.5), plain)


def test_a_residual_adds_what_dropout_leaves_of_the_update():
    x, update = jax.random.normal(jax.random.key(0), (2, 100, 8))
    residual = Residual(8, "pre", 0.75)
    added = np.asarray(residual.after(x, update, jax.random.key(1)) - x)
    kept = abs(added) > 1e-6
    np.testing.assert_allclose(added[kept], 4 * np.asarray(update)[kept], atol=1e-5)
    assert 0.2 < kept.mean() < 0.3
    np.testing.assert_array_equal(residual.after(x, update, None), x + update)


def test_every_sub_layer_and_every_sum_of_embeddings_has_dropout_of_its_own(monkeypatch):
    """Vaswani et al. 2017, sec. 5.4: two sub-layers in an encoder's layer, three in a decoder's."""
    graphdef, params = transformer(dropout=0.5, encoder_layers=2, decoder_layers=3, block=0)

    @quick_jit
    def keys_of(params, key):
        found = []

        def dropout(x, rate, key, positions):
            assert rate == 0.5
            found.append(jax.random.key_data(key))
            return x

        monkeypatch.setattr("models.transformer.dropout", dropout)
        nnx.merge(graphdef, params)(SOURCE, TARGET, key)
        return jnp.stack(found)

    keys = keys_of(params, jax.random.key(0))
    assert len(keys) == len(np.unique(keys, axis=0)) == (1 + 2 * 2) + (1 + 3 * 3)


@pytest.mark.usefixtures("unchecked")
def test_unknown_choices_are_sentences():
    with pytest.raises(ValueError, match="norm must be 'post' or 'pre', not 'both'"):
        transformer(norm="both")
    with pytest.raises(ValueError, match="'xla', 'cudnn', 'blockwise', not 'flash'"):
        transformer(implementation="flash")


def abstract(width, hidden, heads, **changes):
    """Weights of a Transformer of the paper (Vaswani et al. 2017, table 3) as shapes alone."""
    sizes = {
        "vocabulary": 37_000,
        "width": width,
        "hidden": hidden,
        "heads": heads,
        "key_width": width // heads,
        "value_width": width // heads,
        "encoder_layers": 6,
        "decoder_layers": 6,
    }
    create = partial(Transformer, **SIZES | sizes | changes)
    return nnx.state(nnx.eval_shape(lambda: create(key=jax.random.key(0))))


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    "d, f, h, total", [(512, 2048, 8, 63_082_496), (1024, 4096, 16, 214_245_376)]
)
def test_parameters_of_the_paper_to_the_unit(d, f, h, total):
    """Base and big with 37,000 tokens; the paper prints 65 and 213 million."""
    attention = 4 * (d * d + d)  # W^Q, W^K, W^V and W^O of all heads, with biases
    feed_forward = d * f + f + f * d + d
    norm = 2 * d
    encoder_layer = attention + feed_forward + 2 * norm
    decoder_layer = 2 * attention + feed_forward + 3 * norm
    assert 37_000 * d + 6 * (encoder_layer + decoder_layer) == total
    assert count(abstract(d, f, h)) == total
    assert count(abstract(d, f, h, norm="pre")) == total + 2 * norm  # one more on each stack


def test_every_weight_names_its_axes():
    """Shardings follow from the names."""
    params = abstract(16, 32, 2)
    variables = jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, nnx.Variable))
    names = {37_000: "vocab", 16: "embed", 32: "mlp", 2: "heads", 8: None}  # 8 within a head
    assert len(variables) == 1 + 6 * (8 + 4 + 4) + 6 * (16 + 4 + 6)
    for variable in variables:
        assert variable.axes == tuple(names[size] for size in variable.shape)


def test_it_learns_to_reverse_a_handful_of_sentences():
    """And beam search then writes exactly what was learnt."""
    rng = np.random.default_rng(0)
    words = jnp.asarray(rng.integers(3, VOCABULARY, (6, 5)))
    source, target = (
        jnp.pad(w, ((0, 0), (0, 1)), constant_values=EOS) for w in (words, words[:, ::-1])
    )
    changes = {"width": 32, "hidden": 64, "key_width": 16, "value_width": 16}
    create = partial(Transformer, **SIZES | changes)
    optimizer = optax.adam(3e-3, b2=0.98)

    @quick_jit
    def learn(key):
        graphdef, params = nnx.split(create(key=key))

        def loss(params):
            found = nnx.merge(graphdef, params)(source, target)[0]
            return optax.softmax_cross_entropy_with_integer_labels(found, target).mean()

        def step(carry, _):
            params, state = carry
            nats, gradient = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), nats

        start = (params, optimizer.init(params))
        (params, _), losses = jax.lax.scan(step, start, length=120)

        model = nnx.merge(graphdef, params)
        memory, _ = model.encode(source)
        found, _ = beam_search(
            lambda last, cache, position: model.decode_step(last, cache, memory, position),
            model.init_cache(memory, beams=2, length=8),
            jnp.full(6, 8),
            length=8,
            width=2,
            length_penalty=0.6,
            pad=PAD,
            bos=BOS,
            eos=EOS,
        )
        return losses, found[:, 0]

    losses, found = learn(jax.random.key(0, impl="rbg"))  # which compiles faster
    assert losses[0] > 2
    assert losses[-1] < 0.02
    np.testing.assert_array_equal(found, pad(target, 2))
