"""The task on pronunciations: symbols, several references, and a word as a person types it."""

import math

import pytest

import tasks
from configs import transformer_nmt
from tests.commands import here, quick_compiling, write_words
from training.loop import fit


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
    config.measures = ("per", "wer", "perplexity")
    config.example = "cab"
    config.decode.width = 1  # as on the dev split: one program less to compile
    config.train.update(best="dev/wer", best_mode="min")
    with quick_compiling():
        return fit(tasks.build(config, str(workdir)), config, str(workdir)), workdir


def test_error_rates_are_measured(spoken):
    measures = spoken[0]["measures"]
    assert {"test/per", "test/wer", "dev/wer"} <= measures.keys()
    assert 0 < measures["test/wer"] <= 1 and math.isfinite(measures["test/per"])


def test_the_axes_of_pictures_are_letters(spoken):
    assert {path.stem for path in (spoken[1] / "figures").iterdir()} == {
        *("learning_curve", "attention_encoder", "attention_decoder", "attention_cross")
    }


def test_a_word_may_be_typed_as_it_is_written(spoken):
    done = here("eval.py", f"--workdir={spoken[1]}", "--translate=-", stdin=b"c a b\ncab\nCab\n")
    said = done.output.splitlines()
    assert len(said) == 3 and len(set(said)) == 1 and said[0].split()
