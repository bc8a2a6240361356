"""Measures by hand; and pronunciations: symbols, several references, a word as it is typed."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tasks
from configs import transformer_nmt
from tasks.translation.data.bucketing import Side, TokenisedPairs
from tasks.translation.data.vocabulary import EOS, PAD
from tasks.translation.task import build_abstract
from tests.commands import fast_compilation, run_in_process, write_words
from tests.models.tiny import filled, quick_jit
from training.loop import fit
from training.state import TrainState


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """The summary and the folder of a finished run."""
    folder, workdir = tmp_path_factory.mktemp("words"), tmp_path_factory.mktemp("run")
    config = transformer_nmt.get_config("smoke")
    config.data = {
        "corpus": "cmudict",
        "source": "letters",
        "target": "phonemes",
        "dir": str(write_words(folder)),
    }
    config.vocabulary = {"kind": "symbols"}
    config.metrics = ("per", "wer", "perplexity")
    config.example = "cab"
    config.decode.width = 1  # as on the dev split: one program less to compile
    config.train.update(best="dev/wer", best_mode="min")
    with fast_compilation():
        return fit(tasks.build(config, str(workdir)), config, str(workdir)), workdir


def test_error_rates_are_measured(spoken):
    measures = spoken[0]["metrics"]
    assert {"test/per", "test/wer", "dev/wer"} <= measures.keys()
    assert 0 < measures["test/wer"] <= 1 and math.isfinite(measures["test/per"])


def test_the_axes_of_pictures_are_letters(spoken):
    assert {path.stem for path in (spoken[1] / "figures").iterdir()} == {
        *("learning_curve", "attention_encoder", "attention_decoder", "attention_cross")
    }


def test_a_word_may_be_typed_as_it_is_written(spoken):
    done = run_in_process(
        "eval.py", f"--workdir={spoken[1]}", "--translate=-", stdin=b"c a b\ncab\nCab\n"
    )
    said = done.output.splitlines()
    assert len(said) == 3 and len(set(said)) == 1 and said[0].split()


def test_perplexity_is_that_of_the_references_without_smoothing(tmp_path, monkeypatch):
    """Nothing is searched for here: that is another matter."""

    def nothing(step, cache, lengths, *, length, width, **_):
        return jnp.full((len(lengths), width, length), EOS), None

    monkeypatch.setattr("tasks.translation.task.beam_search", nothing)
    config = transformer_nmt.get_config("smoke")
    config.label_smoothing = 0.3
    task = tasks.build(config, str(tmp_path))
    model = filled(lambda: task.create(key=jax.random.key(0)))
    state = TrainState(jnp.int32(0), nnx.state(model), None)
    full = quick_jit(lambda params, *pair: nnx.merge(task.graphdef, params)(*pair)[0])
    costs = []
    for batch in task.batches("dev", 0):
        logits = np.asarray(full(state.params, batch["source"], batch["target"]), np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        for row, t in np.argwhere(batch["target"] != PAD):
            costs.append(-log_probs[row, t, batch["target"][row, t]])
    with fast_compilation():
        found = task.evaluate(state, "dev")["perplexity"]
    np.testing.assert_allclose(found, np.exp(np.mean(costs)), rtol=1e-4)


def test_a_length_on_an_edge_belongs_below_it(tmp_path):
    config = transformer_nmt.get_config("smoke")
    config.metrics, config.lengths = ("exact_match", "perplexity"), (4, 8, 12, 16)
    task = build_abstract(config, str(tmp_path))
    lengths = np.array([5, 1, 16, 4, 8, 17])
    side = Side(np.empty(0, np.uint16), np.zeros(6, int), lengths)
    right = [["a"], ["-"], ["c"], ["d"], ["-"], ["f"]]
    found = task._by_length(TokenisedPairs(side, side), list("abcdef"), right)
    assert found == {"exact_match_1-4": 0.5, "exact_match_5-8": 0.5, "exact_match_13-16": 1.0}
