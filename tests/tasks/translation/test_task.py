"""The translation task: metrics by hand, grapheme-to-phoneme conversion, configuration errors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tasks
from configs import seq2seq_nmt, transformer_nmt
from tasks.translation.decoding import Decoded
from tasks.translation.task import build_abstract
from tasks.vocabulary import EOS, PAD
from tests.commands import (
    fast_compilation,
    run_in_process,
    write_parallel_corpus,
    write_pronunciations,
)
from tests.models.tiny import unoptimized_jit, with_random_params
from training.errors import UserError
from training.loop import fit
from training.state import TrainState


@pytest.fixture(scope="module")
def g2p_run(tmp_path_factory):
    """Summary and run directory of a finished run on a small pronouncing dictionary."""
    data_dir, workdir = tmp_path_factory.mktemp("words"), tmp_path_factory.mktemp("run")
    config = transformer_nmt.get_config("smoke")
    config.data = {
        "corpus": "cmudict",
        "source": "letters",
        "target": "phonemes",
        "dir": str(write_pronunciations(data_dir)),
    }
    config.vocabulary = {"kind": "symbols"}
    config.metrics = ("per", "wer", "perplexity")
    config.example = "cab"
    config.decode.width = 1  # equal to the width on the dev split, to avoid recompilation
    config.optimizer.learning_rate = 1e-2
    config.train.update(best="dev/wer", best_mode="min")
    config.train.update(steps=20, log_every=10, eval_every=20, checkpoint_every=10)
    with fast_compilation():
        return fit(tasks.build(config, str(workdir)), config, str(workdir)), workdir


def test_summary_contains_error_rates(g2p_run):
    metrics = g2p_run[0]["metrics"]
    assert {"test/per", "test/wer", "dev/wer"} <= metrics.keys()
    assert 0 < metrics["test/wer"] <= 1 and math.isfinite(metrics["test/per"])


def test_run_writes_attention_figures(g2p_run):
    assert {path.name for path in (g2p_run[1] / "figures").iterdir()} == {
        *("learning_curve.png", "attention.html"),
        *("attention_encoder.png", "attention_decoder.png", "attention_cross.png"),
    }


def test_unspaced_and_capitalized_words_are_accepted(g2p_run):
    done = run_in_process(
        "eval.py", f"--workdir={g2p_run[1]}", "--translate=-", stdin=b"c a b\ncab\nCab\n"
    )
    pronunciations = done.output.splitlines()
    assert len(pronunciations) == 3 and len(set(pronunciations)) == 1
    assert pronunciations[0].split()


def test_perplexity_excludes_label_smoothing(tmp_path, monkeypatch):
    def no_search(step, cache, lengths, *, length, width, **_):
        return jnp.full((len(lengths), width, length), EOS), None

    monkeypatch.setattr("tasks.translation.decoding.beam_search", no_search)
    config = transformer_nmt.get_config("smoke")
    config.label_smoothing = 0.3
    task = tasks.build(config, str(tmp_path))
    model = with_random_params(lambda: task.create(key=jax.random.key(0)))
    state = TrainState(jnp.int32(0), nnx.state(model), None)
    full = unoptimized_jit(lambda params, *pair: nnx.merge(task.graphdef, params)(*pair)[0])
    nats = []
    for batch in task.batches("dev", 0):
        logits = np.asarray(full(state.params, batch["source"], batch["target"]), np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        for i, t in np.argwhere(batch["target"] != PAD):
            nats.append(-log_probs[i, t, batch["target"][i, t]])
    with fast_compilation():
        found = task.evaluate(state, "dev")["perplexity"]
    np.testing.assert_allclose(found, np.exp(np.mean(nats)), rtol=1e-4)


def test_recurrent_models_reject_packed_rows(tmp_path):
    config = seq2seq_nmt.get_config("smoke")
    config.packing = transformer_nmt.get_config("smoke").packing
    with pytest.raises(UserError, match="'rnnsearch' cannot train on packed rows: remove"):
        build_abstract(config, str(tmp_path))


@pytest.mark.parametrize(
    ("module", "changes"),
    [
        (transformer_nmt, {}),
        (seq2seq_nmt, {}),
        (seq2seq_nmt, {"batching.buckets": (12, 16, 24), "max_training_length": 14}),
    ],
)
def test_largest_batch_has_the_shapes_of_the_training_batches(tmp_path, module, changes):
    config = module.get_config("smoke")
    config.update_from_flattened_dict(changes)
    task = tasks.build(config, str(tmp_path))
    batches = task.batches("train", 0)
    shapes = [{name: x.shape for name, x in next(batches).items()} for _ in range(20)]
    batches.close()
    largest = max(shapes, key=lambda shape: shape["source"][1])
    assert largest == {name: x.shape for name, x in task.largest_batch().items()}


def test_location_score_must_have_a_row_for_each_source_position(tmp_path):
    config = seq2seq_nmt.get_config("smoke")
    config.model.attention.update(score="location", max_source_length=24)
    config.batching.buckets = (16, 24)
    build_abstract(config, str(tmp_path))
    config.batching.buckets = (16, 32)
    with pytest.raises(UserError, match=r"max_source_length=24 is .*: set it to 32 or more"):
        build_abstract(config, str(tmp_path))


@pytest.fixture
def text_config(tmp_path):
    """Config of a small Transformer on parallel text in `tmp_path`."""
    config = transformer_nmt.get_config("smoke")
    write_parallel_corpus(tmp_path, train=40, dev=4, test=4)
    config.data = {"corpus": "text_files", "source": "en", "target": "de", "dir": str(tmp_path)}
    config.metrics = ("bleu", "chrf")
    config.train.best = "dev/bleu"
    return config


def set_target(config, directory, language, text):
    """Replace the German sentences by sentences of another language."""
    for path in directory.glob("*.de"):
        lines = len(path.read_text().splitlines())
        path.with_suffix(f".{language}").write_text(f"{text}\n" * lines)
    config.data.target = language


def test_constant_metric_is_rejected_before_training(text_config, tmp_path):
    set_target(text_config, tmp_path, "th", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35")
    with pytest.raises(UserError, match=r"train\.best='dev/bleu' cannot rank checkpoints"):
        tasks.build(text_config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    text_config.train.best = "dev/chrf"
    tasks.build(text_config, str(tmp_path / "run"))


def test_missing_tokenizer_is_found_before_training(text_config, tmp_path, monkeypatch):
    set_target(text_config, tmp_path, "ja", "\u4eca\u65e5\u306f")
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    with pytest.raises(UserError, match=r"run `pip install 'sacrebleu\[ja\]'`"):
        tasks.build(text_config, str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_ignored_files_and_empty_pairs_are_reported(text_config, tmp_path):
    (tmp_path / "vocab.en").write_text("a\n\n")
    for language, empty in (("en", [3, 7]), ("de", [7, 20, 39])):
        lines = (tmp_path / f"train.{language}").read_text().splitlines()
        lines = ["" if i in empty else line for i, line in enumerate(lines)]
        (tmp_path / f"train.{language}").write_text("\n".join(lines) + "\n")
    task = tasks.build(text_config, str(tmp_path / "run"))
    rows = task.describe()
    assert rows["ignored"] == "vocab.en"
    assert rows["empty"] == "4 training pairs left out (lines 4, 8, 21)"
    long = int(rows["too long"].split()[0])
    assert len(task._training_pairs[0]) == 40 - 4 - long
    assert "tok:13a" in rows["bleu"]


def test_samples_are_not_the_first_sentences_of_the_test_split(text_config, tmp_path, monkeypatch):
    lines = [f"sentence {n}" for n in range(100)]
    for language in ("en", "de"):
        (tmp_path / f"test.{language}").write_text("\n".join(lines) + "\n")
    task = build_abstract(text_config, str(tmp_path / "run"))
    translate = lambda params, sentences, width: (sentences, 0)
    monkeypatch.setattr(task, "_translate", translate)
    samples = task.samples(TrainState(jnp.int32(0), None, None))
    numbers = [int(line.split()[-1]) for line in samples.splitlines() if line]
    shown = sorted(set(numbers))
    assert numbers == [n for n in shown for _ in range(3)]
    assert len(shown) == 4 and shown != [0, 1, 2, 3]


def test_references_are_compared_in_the_normal_form_of_the_output(
    text_config, tmp_path, monkeypatch
):
    decomposed = "u\u0308ber a\u0308 o\u0308 a"
    set_target(text_config, tmp_path, "xx", decomposed)
    text_config.vocabulary.size = 40
    text_config.metrics = ("exact_match", "bleu")
    task = tasks.build(text_config, str(tmp_path / "run"))
    outputs = task.vocabulary.encode([decomposed] * 4)
    decode = lambda *_, **__: Decoded(outputs, [], 0.0, 1.0)
    monkeypatch.setattr(task.decoder, "decode", decode)
    values = task.evaluate(TrainState(jnp.int32(0), None, None), "dev")
    assert values == {"exact_match": 1.0, "bleu": pytest.approx(100)}
