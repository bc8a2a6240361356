"""RNNsearch and Luong: one step at a time or all at once, padding, causality, what is printed."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Luong, RNNsearch
from models.beam_search import beam_search
from models.encoder_decoder import Attention
from models.seq2seq.attention_layer import Mechanism
from models.seq2seq.encoders import make_encoder
from tests.models.tiny import SOURCE, TARGET, VOCABULARY, quick_jit

MODELS = {
    "rnnsearch": (RNNsearch, {"maxout": 7}),
    "luong": (Luong, {"layers": 2, "input_feeding": False}),
    "luong, fed": (Luong, {"layers": 2, "input_feeding": True}),
}
ALIGNMENTS = ("soft", "hard", "straight_through", "local_m", "local_p", "none")
SCORES = ("content", "additive", "location", "general", "dot", "scaled_dot")
every = pytest.mark.parametrize("name", MODELS)


@cache
def model(name, score="additive", alignment="soft", kind="gru", direction="both"):
    """Graph and weights of a tiny model."""
    made, options = MODELS[name]
    return nnx.split(
        made(
            vocabulary=VOCABULARY,
            embedding=6,
            hidden=8,
            encoder={"kind": kind, "layers": 1, "direction": direction, "width": 8},
            attention={
                "score": score,
                "alignment": alignment,
                "width": 5,
                "longest": 9,
                "half_width": 1,
                "expected": 0.5,
                "entropy": 0.0,
            },
            dropout=0.1,
            dtype="float32",
            key=jax.random.key(0),
            **options,
        )
    )


def logits_of(graph, weights, source, target):
    built = nnx.merge(graph, weights)
    memory, _ = built.encode(source)
    states, _ = built.decode(target, memory)
    return states @ built.output_table.T


def steps_of(graph, weights, source, target):
    """The same, one target position at a time, with two beams that are the same."""
    built = nnx.merge(graph, weights)
    memory, _ = built.encode(source)
    cache, found = built.init_cache(memory, 2, target.shape[1]), []
    shifted = jnp.pad(target[:, :-1], ((0, 0), (1, 0)), constant_values=built.bos)
    for t in range(target.shape[1]):
        last = jnp.repeat(shifted[:, t, None], 2, axis=1)
        logits, cache = built.decode_step(last, cache, memory, jnp.int32(t))
        found.append(logits)
    return jnp.stack(found, axis=2)


def test_a_model_without_attention_has_none_to_look_at():
    graph, weights = model("rnnsearch", alignment="none")
    assert nnx.merge(graph, weights).attention(SOURCE, TARGET) == Attention([], [], [])


def check_steps(*choice):
    graph, weights = model(*choice)
    both = quick_jit(lambda *x: (logits_of(graph, *x), steps_of(graph, *x)))
    whole, steps = both(weights, SOURCE, TARGET)
    for beam in range(2):
        np.testing.assert_allclose(steps[:, beam], whole, atol=1e-5)


@pytest.mark.parametrize(
    "choice",
    [
        ("rnnsearch",),
        ("rnnsearch", "content", "hard"),
        ("rnnsearch", "location", "local_p"),
        ("luong", "general", "local_m", "lstm", "forward"),
        ("luong, fed", "dot", "local_p", "lstm", "reverse"),
        ("luong, fed", "additive", "none", "self_attention"),
    ],
)
def test_steps_equal_the_whole_pass(choice):
    check_steps(*choice)


@pytest.mark.slow
@every
@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("score", SCORES)
def test_steps_equal_the_whole_pass_for_every_mechanism(name, score, alignment):
    check_steps(name, score, alignment)


@pytest.mark.parametrize("choice", [("rnnsearch", "additive", "local_p"), ("luong",)])
def test_padding_changes_nothing(choice):
    graph, weights = model(*choice)
    form = quick_jit(lambda *x: logits_of(graph, *x))
    whole = form(weights, SOURCE, TARGET)
    alone = form(weights, SOURCE[1:, :3], TARGET[1:, :3])  # the second, without its padding
    np.testing.assert_allclose(whole[1, :3], alone[0], atol=1e-5)
    assert jnp.isfinite(form(weights, jnp.zeros_like(SOURCE), TARGET)).all()


def check_gradients(*choice):
    """In training, one source of the two being padding alone."""
    graph, weights = model(*choice)
    source = SOURCE.at[1].set(0)

    @quick_jit
    def gradients(weights):
        def loss(weights):
            built = nnx.merge(graph, weights)
            memory, _ = built.encode(source, jax.random.key(1))
            states, aligned = built.decode(TARGET, memory, jax.random.key(2))
            drawn = 0.0 if aligned.log_prob is None else jnp.sum(aligned.log_prob)
            return jnp.sum(jnp.sin(states @ built.output_table.T)) + drawn

        return jax.grad(loss)(weights)

    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients(weights)):
        assert jnp.isfinite(gradient).all() and gradient.any(), jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    "choice", [("rnnsearch", "scaled_dot", "hard"), ("luong, fed", "content", "local_p")]
)
def test_every_weight_learns_and_padding_alone_harms_none(choice):
    check_gradients(*choice)


@pytest.mark.slow
@every
@pytest.mark.parametrize(
    "mechanism",
    [*(("additive", x) for x in ALIGNMENTS), *((x, "soft") for x in SCORES if x != "additive")],
)
def test_every_weight_of_every_mechanism_learns(name, mechanism):
    check_gradients(name, *mechanism)


@pytest.mark.parametrize(
    "choice", [("rnnsearch", "general", "straight_through"), ("luong, fed", "additive", "local_p")]
)
def test_beam_search_finds_what_the_whole_pass_gives_its_score(choice):
    """Wrong, were a state left behind where beams change places; and width 1 is greedy."""
    graph, weights = model(*choice)
    length, eos = TARGET.shape[1], 2

    @partial(quick_jit, static_argnums=1)
    def search(weights, width):
        built = nnx.merge(graph, weights)
        memory, _ = built.encode(SOURCE)
        return beam_search(
            lambda tokens, cache, at: built.decode_step(tokens, cache, memory, at),
            built.init_cache(memory, width, length),
            jnp.full(len(SOURCE), length),
            length=length,
            width=width,
            length_penalty=0.0,
            pad=built.pad,
            bos=built.bos,
            eos=eos,
        )

    whole = quick_jit(lambda *x: jax.nn.log_softmax(logits_of(graph, *x)))
    found, scores = search(weights, 3)
    assert len({tuple(row) for row in np.asarray(found[0])}) == 3
    for beam in range(3):
        log_probs = whole(weights, SOURCE, found[:, beam])
        chosen = jnp.take_along_axis(log_probs, found[:, beam, :, None], -1)[..., 0]
        until = jnp.argmax(found[:, beam] == eos, axis=-1, keepdims=True)
        total = jnp.sum(chosen * (jnp.arange(length) <= until), axis=-1)
        np.testing.assert_allclose(scores[:, beam], total, atol=1e-4)

    greedy, _ = search(weights, 1)
    likeliest = whole(weights, SOURCE, greedy[:, 0]).argmax(-1)
    for tokens, likely in zip(np.asarray(greedy[:, 0]), np.asarray(likeliest), strict=True):
        free = min(length - 1, list(tokens).index(eos) + 1)  # at the limit only `eos` may follow
        np.testing.assert_array_equal(tokens[:free], likely[:free])


def test_dropout_is_of_the_key_and_of_nothing_without_one():
    graph, weights = model("luong, fed")

    @partial(quick_jit, static_argnums=2)
    def states(weights, key, rate=0.1):
        built = nnx.merge(graph, weights)
        built.rate = built.encoder.rate = rate
        return built.decode(TARGET, built.encode(SOURCE, key)[0], key)[0]

    one, again, other = (states(weights, jax.random.key(n)) for n in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    never = states(weights, jax.random.key(0), 0.0)
    np.testing.assert_array_equal(states(weights, None), never)
    assert (one != never).any()


@every
def test_no_position_sees_its_own_token_or_later_ones(name):
    graph, weights = model(name)
    form = quick_jit(lambda *x: logits_of(graph, *x))
    whole = form(weights, SOURCE[:1], TARGET[:1])
    for t in range(TARGET.shape[1]):
        other = form(weights, SOURCE[:1], TARGET[:1].at[0, t:].set(3))
        np.testing.assert_array_equal(other[0, : t + 1], whole[0, : t + 1])
        if t + 1 < TARGET.shape[1]:
            assert jnp.abs(other[0, t + 1] - whole[0, t + 1]).max() > 1e-6


def test_a_sentence_under_hard_alignment_that_reads_its_expectation_reads_softly():
    graph, weights = model("rnnsearch", "additive", "hard")

    @quick_jit
    def states(weights, expected):
        built = nnx.merge(graph, weights)
        memory, _ = built.encode(SOURCE)
        memory = built.sampling(memory, jax.random.key(1))
        memory = memory._replace(draw=memory.draw._replace(expected=expected))
        return built.decode(TARGET, memory)

    @quick_jit
    def soft_states(weights):
        built = nnx.merge(model("rnnsearch", "additive", "soft")[0], weights)
        return built.decode(TARGET, built.encode(SOURCE)[0])[0]

    found, aligned = states(weights, jnp.array([True, False]))
    expected = soft_states(weights)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    assert not aligned.log_prob[0].any() and (aligned.log_prob[1] < 0).all()
    assert jnp.all((aligned.weights[1] == 0) | (aligned.weights[1] == 1))


@every
def test_learns_two_pairs_by_heart(name):
    graph, weights = model(name)

    def loss(weights):
        built = nnx.merge(graph, weights)
        memory, _ = built.encode(SOURCE)
        states, _ = built.decode(TARGET, memory)
        log_probs = jax.nn.log_softmax(states @ built.output_table.T)
        chosen = jnp.take_along_axis(log_probs, TARGET[..., None], -1)[..., 0]
        return -jnp.sum(chosen * (TARGET > 0)) / jnp.sum(TARGET > 0)

    @quick_jit
    def train(weights):
        def step(carry, _):
            weights, speed = carry
            nats, gradient = jax.value_and_grad(loss)(weights)
            speed = jax.tree.map(lambda v, g: 0.9 * v + g, speed, gradient)
            return (jax.tree.map(lambda w, v: w - 0.1 * v, weights, speed), speed), nats

        start = weights, jax.tree.map(jnp.zeros_like, weights)
        return jax.lax.scan(step, start, None, length=300)[1]

    first, *_, last = train(weights)
    assert first > 2 and last < 0.05


def test_rnnsearch_has_the_parameters_of_the_paper():
    """By the arithmetic of app. A at the sizes of app. A.2.3, K = 30,000 words on either side."""
    k, m, n, a, l = 30_000, 620, 1000, 1000, 500  # noqa: E741  the paper's letters
    shapes = nnx.state(
        nnx.eval_shape(
            lambda: RNNsearch(
                vocabulary=k,
                embedding=m,
                hidden=n,
                maxout=l,
                encoder={"kind": "gru", "layers": 1, "direction": "both", "width": 2 * n},
                attention={
                    "score": "additive",
                    "alignment": "soft",
                    "width": a,
                    "longest": 1,
                    "half_width": 1,
                    "expected": 0.0,
                    "entropy": 0.0,
                },
                dropout=0.0,
                dtype="float32",
                key=jax.random.key(0),
            )
        )
    )
    encoder = 2 * (3 * (m * n + n * n + n))  # W, U and a bias for candidate and both gates
    decoder = 3 * (m * n + n * n + 2 * n * n + n)  # and C
    alignment = n * a + 2 * n * a + a
    readout = 2 * l * (n + m + 2 * n) + 2 * l
    start = 2 * n * n + n  # from both directions, where the paper takes one
    expected = 2 * k * m + k * l + encoder + decoder + alignment + readout + start
    assert sum(x.size for x in jax.tree.leaves(shapes)) == expected


@pytest.mark.parametrize(
    "choice, said",
    [
        (("rnnsearch", "scaled"), "score must be one of content, additive"),
        (("luong", "dot", "sof"), "alignment must be one of soft, hard"),
        (("luong", "dot", "soft", "rnn"), "encoder must be one of gru, lstm"),
        (("luong", "dot", "soft", "gru", "up"), "direction must be one of forward, reverse, both"),
    ],
)
def test_unknown_names_are_named(choice, said, unchecked):
    with pytest.raises(ValueError, match=said):
        model(*choice)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"score": "dot"}, "make them equal, or choose 'general' or 'additive'"),
        ({"alignment": "local_p", "half_width": 0}, "half_width of at least 1, not 0"),
    ],
)
def test_mechanisms_that_cannot_be_are_refused(changes, said):
    fitting = {"score": "location", "alignment": "soft", "width": 5, "longest": 2, "half_width": 1}
    options = fitting | {"expected": 0.0, "entropy": 0.0, "key": jax.random.key(0)}
    mechanism = Mechanism(8, 6, **options)
    with pytest.raises(ValueError, match="a source of 3 is longer than attention.longest=2"):
        mechanism.project(jnp.ones((1, 3, 6)), jnp.ones((1, 6)), jnp.ones((1, 3), bool))
    with pytest.raises(ValueError, match=said):
        Mechanism(8, 6, **options | changes)


@pytest.mark.parametrize(
    "kind, width, said",
    [
        ("lstm", 7, "an annotation of 7 cannot be halved between two directions"),
        ("self_attention", 6, "an annotation of 6 cannot be shared by 4 heads"),
    ],
)
def test_annotations_that_cannot_be_divided_are_refused(kind, width, said):
    options = {"layers": 1, "direction": "both", "rate": 0.0, "key": jax.random.key(0)}
    with pytest.raises(ValueError, match=said):
        make_encoder(6, kind=kind, width=width, **options)
