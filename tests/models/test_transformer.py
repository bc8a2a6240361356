"""The Transformer: masking, packing, cached decoding, published sizes and training."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from models import Transformer
from models.beam_search import beam_search
from models.encoder_decoder import Segments
from models.transformer_layers import Residual
from tests.models.tiny import (
    SIZES,
    SOURCE,
    TARGET,
    VOCABULARY,
    logits,
    run,
    transformer,
    unoptimized_jit,
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
def test_state_depends_on_earlier_targets_only(norm):
    """No target token occurs twice or in the source, so each has its own row of gradients."""
    graphdef, params = transformer(norm=norm)
    source, target = SOURCE[:1], TARGET[:1]
    probe = np.cos(np.arange(SIZES["width"]))

    @unoptimized_jit
    def jacobian(params):
        def probed(params):
            model = nnx.merge(graphdef, params)
            memory, _ = model.encode(source)
            return model.decode(target, memory)[0][0] @ probe

        return jax.jacrev(probed)(params)["embedding"]["table"][...]

    norms = abs(np.asarray(jacobian(params))).sum(-1)
    influence = norms[:, np.asarray(target[0])]  # [state, target]
    past = np.tri(T, T, k=-1, dtype=bool)
    assert (influence[~past] == 0).all()
    assert (influence[past] > 1e-6).all()


@pytest.mark.parametrize("position", range(T))
def test_target_token_changes_later_logits_only(position):
    target = np.where(TARGET == PAD, 10, TARGET)  # without padding, whose logits are not used
    before = logits(SOURCE, target)
    after = logits(SOURCE, change(target, (slice(None), position), 7))
    np.testing.assert_array_equal(after[:, : position + 1], before[:, : position + 1])
    assert (abs(after - before)[:, position + 1 :].max(-1) > 1e-6).all()


def test_source_token_changes_every_logit():
    before = logits(SOURCE, TARGET)
    for position in range(SOURCE.shape[1]):
        difference = abs(logits(change(SOURCE, (0, position), 7), TARGET) - before)
        assert (difference[0].max(-1) > 1e-6).all()
        assert not difference[1].any()


def test_logits_do_not_depend_on_padding():
    expected = logits(SOURCE, TARGET)
    found = logits(pad(SOURCE, 3), pad(TARGET, 2))
    real = np.asarray(TARGET != PAD)
    np.testing.assert_allclose(found[:, :T][real], expected[real], atol=1e-5)


def pack(tokens, first, second):
    """Pack two sentences, given as (index, length), in one row with padding between them."""
    row, ids, positions = np.zeros((3, 1, 12), np.int32)
    starts = 0, first[1] + 2
    for number, (start, (sentence, n)) in enumerate(zip(starts, (first, second), strict=True), 1):
        at = slice(start, start + n)
        row[0, at] = np.asarray(tokens)[sentence, :n]
        ids[0, at], positions[0, at] = number, np.arange(n)
    return jnp.asarray(row), Segments(jnp.asarray(ids), jnp.asarray(positions))


@pytest.mark.parametrize(
    "norm, implementation", [("post", "xla"), ("pre", "xla"), ("post", "blockwise")]
)
def test_packed_sentences_have_the_states_and_gradients_of_separate_sentences(norm, implementation):
    graphdef, params = transformer(norm=norm, implementation=implementation, decoder_layers=2)
    probe = np.cos(np.arange(2 * T * SIZES["width"])).reshape(2, T, -1)
    real = np.asarray(TARGET != PAD)
    source, source_segments = pack(SOURCE, (1, 3), (0, 6))
    target, target_segments = pack(TARGET, (1, 3), (0, 5))

    @unoptimized_jit
    def separate(params):
        def weighted(params):
            model = nnx.merge(graphdef, params)
            states, _ = model.decode(TARGET, model.encode(SOURCE)[0])
            return jnp.sum(jnp.where(real[..., None], probe * states, 0.0)), states

        return jax.grad(weighted, has_aux=True)(params)

    @unoptimized_jit
    def together(params):
        def weighted(params):
            model = nnx.merge(graphdef, params)
            memory, _ = model.encode(source, segments=source_segments)
            states, _ = model.decode(target, memory, segments=target_segments)
            states = jnp.stack([states[0, 5 : 5 + T], jnp.pad(states[0, :3], ((0, 2), (0, 0)))])
            return jnp.sum(jnp.where(real[..., None], probe * states, 0.0)), states

        return jax.grad(weighted, has_aux=True)(params)

    (gradients, states), (expected, expected_states) = together(params), separate(params)
    np.testing.assert_allclose(states[real], expected_states[real], atol=1e-5)
    for one, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)


def test_source_of_padding_only_gives_finite_logits():
    assert np.isfinite(logits(change(SOURCE, 1, PAD), TARGET)).all()


def test_sentences_of_a_batch_are_independent():
    together = logits(SOURCE, TARGET)
    for b in range(2):
        separate = logits(SOURCE[b : b + 1], TARGET[b : b + 1])
        np.testing.assert_allclose(separate[0], together[b], atol=1e-5)


def test_attention_weights_are_distributions_over_unmasked_keys():
    attention = jax.device_get(run(*transformer(), SOURCE, TARGET)[1])
    source, target = (np.asarray(tokens != PAD)[:, None] for tokens in (SOURCE, TARGET))
    allowed = {
        "encoder": source[..., None] & source[..., None, :],
        "decoder": target[..., None] & target[..., None, :] & (np.tri(T) > 0),
        "cross": target[..., None] & source[..., None, :],
    }
    for name, mask in allowed.items():
        [weights] = getattr(attention, name)
        np.testing.assert_array_equal(weights > 0, np.broadcast_to(mask, weights.shape))
        total = np.broadcast_to(mask.any(-1), weights.shape[:-1])
        np.testing.assert_allclose(weights.sum(-1), total, atol=1e-5)


def test_blockwise_attention_gives_the_logits_and_gradients_of_plain_attention():
    real = np.asarray(TARGET != PAD)[..., None]
    probe = np.cos(np.arange(2 * T * VOCABULARY)).reshape(2, T, VOCABULARY) * real

    def logits_and_gradients(implementation):
        graphdef, params = transformer(implementation=implementation)

        @unoptimized_jit
        def both(params):
            def weighted(params):
                found = nnx.merge(graphdef, params)(SOURCE, TARGET)[0]
                return jnp.sum(probe * found), found * real

            return jax.grad(weighted, has_aux=True)(params)

        return jax.tree.leaves(both(params))

    for one, other in zip(
        logits_and_gradients("blockwise"), logits_and_gradients("xla"), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-4)


def test_blockwise_model_returns_the_attention_weights_of_the_plain_model():
    def weights(implementation):
        graphdef, params = transformer(implementation=implementation)
        attention = lambda params: nnx.merge(graphdef, params).attention(SOURCE, TARGET)
        return unoptimized_jit(attention)(params)

    found, expected = weights("blockwise"), run(*transformer(), SOURCE, TARGET)[1]
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("norm, layers", [("post", 2), ("pre", 1)])
def test_cached_decoding_equals_the_full_pass(norm, layers):
    """Three beams of each sentence hold different prefixes and share the sentence's memory."""
    beams = 3
    targets = jnp.asarray(np.random.default_rng(0).integers(2, VOCABULARY, (2, beams, T)))
    graphdef, params = transformer(norm=norm, decoder_layers=layers)

    @unoptimized_jit
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
    assert 1e-4 < error < 0.05  # bfloat16 has 8 bits of precision


def test_dropout_depends_on_the_key():
    plain = logits(SOURCE, TARGET)
    one, same, other = (
        logits(SOURCE, TARGET, jax.random.key(seed), dropout=0.5) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert abs(one - other).max() > 0.1
    np.testing.assert_array_equal(logits(SOURCE, TARGET, dropout=0.5), plain)


def test_residual_applies_dropout_to_the_update():
    x, update = jax.random.normal(jax.random.key(0), (2, 100, 8))
    residual = Residual(8, "pre", 0.75)
    added = np.asarray(residual.output(x, update, jax.random.key(1)) - x)
    kept = abs(added) > 1e-6
    np.testing.assert_allclose(added[kept], 4 * np.asarray(update)[kept], atol=1e-5)
    assert 0.2 < kept.mean() < 0.3
    np.testing.assert_array_equal(residual.output(x, update, None), x + update)


def test_every_sublayer_and_embedding_has_dropout_with_its_own_key(monkeypatch):
    """Vaswani et al. 2017, sec. 5.4: two sub-layers per encoder layer, three per decoder layer."""
    graphdef, params = transformer(dropout=0.5, encoder_layers=2, decoder_layers=3)

    @unoptimized_jit
    def keys_of(params, key):
        found = []

        def dropout(x, rate, key):
            assert rate == 0.5
            found.append(jax.random.key_data(key))
            return x

        for module in ("transformer", "transformer_layers"):
            monkeypatch.setattr(f"models.{module}.dropout", dropout)
        nnx.merge(graphdef, params)(SOURCE, TARGET, key)
        return jnp.stack(found)

    keys = keys_of(params, jax.random.key(0))
    assert len(keys) == len(np.unique(keys, axis=0)) == (1 + 2 * 2) + (1 + 3 * 3)


@pytest.mark.usefixtures("disable_type_checks")
def test_unknown_options_are_rejected():
    with pytest.raises(ValueError, match="norm must be 'post' or 'pre', not 'both'"):
        transformer(norm="both")
    with pytest.raises(ValueError, match="'xla', 'cudnn', 'blockwise', not 'flash'"):
        transformer(implementation="flash")


def abstract(width, hidden, heads, **changes):
    """Abstract weights of a Transformer of the paper (Vaswani et al. 2017, table 3)."""
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
def test_parameter_counts_match_the_paper(d, f, h, total):
    """Base and big with 37,000 tokens; the paper prints 65 and 213 million."""
    attention = 4 * (d * d + d)  # W^Q, W^K, W^V and W^O of all heads, with biases
    feed_forward = d * f + f + f * d + d
    norm = 2 * d
    encoder_layer = attention + feed_forward + 2 * norm
    decoder_layer = 2 * attention + feed_forward + 3 * norm
    assert 37_000 * d + 6 * (encoder_layer + decoder_layer) == total
    assert count(abstract(d, f, h)) == total
    assert count(abstract(d, f, h, norm="pre")) == total + 2 * norm  # one more norm per stack


def test_every_weight_has_logical_axis_names():
    params = abstract(16, 32, 2)
    variables = jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, nnx.Variable))
    names = {
        37_000: "vocab",
        16: "embed",
        32: "mlp",
        2: "heads",
        8: None,
    }  # 8 is a head's width
    assert len(variables) == 1 + 6 * (8 + 4 + 4) + 6 * (16 + 4 + 6)
    for variable in variables:
        assert variable.axes == tuple(names[size] for size in variable.shape)


def test_model_learns_to_reverse_sentences_and_beam_search_finds_the_targets():
    rng = np.random.default_rng(0)
    words = jnp.asarray(rng.integers(3, VOCABULARY, (6, 5)))
    source, target = (
        jnp.pad(w, ((0, 0), (0, 1)), constant_values=EOS) for w in (words, words[:, ::-1])
    )
    changes = {"width": 32, "hidden": 64, "key_width": 16, "value_width": 16}
    create = partial(Transformer, **SIZES | changes)
    optimizer = optax.adam(3e-3, b2=0.98)

    @unoptimized_jit
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

    losses, found = learn(jax.random.key(0, impl="rbg"))  # the rbg generator compiles faster
    assert losses[0] > 2
    assert losses[-1] < 0.02
    np.testing.assert_array_equal(found, pad(target, 2))
