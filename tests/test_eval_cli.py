"""`eval.py` reproduces the metrics of a run, translates sentences and shows attention."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2

from configs import transformer_nmt
from tasks import attention_maps, viewer
from tests.commands import ROOT, SMOKE_CONFIG, run_in_process, run_in_subprocess

SENTENCES = ["twenty-one", "seven thousand and three"]


@pytest.fixture(scope="module")
def smoke_run(tmp_path_factory):
    """Run directory of a finished run; tests must copy it before changing it."""
    workdir = tmp_path_factory.mktemp("smoke") / "run"
    done = run_in_process("train.py", SMOKE_CONFIG, f"--workdir={workdir}")
    assert done.code == 0, done.errors
    return workdir


@pytest.fixture
def evaluate(smoke_run):
    """Run `eval.py` on the smoke run, and return its standard output and error."""

    def command(*flags, stdin=b""):
        done = run_in_process("eval.py", f"--workdir={smoke_run}", *flags, stdin=stdin)
        assert done.code == 0, done.errors
        return done.output, done.errors

    return command


@pytest.fixture(scope="module")
def exported_run(smoke_run, tmp_path_factory):
    """Directory with the exported weights of the smoke run, its config and its vocabulary."""
    directory = tmp_path_factory.mktemp("exported")
    done = run_in_process(
        "eval.py", f"--workdir={smoke_run}", f"--export={directory}/weights.safetensors"
    )
    assert done.code == 0, done.errors
    for name in ("config.json", "vocabulary.model"):
        shutil.copy(smoke_run / name, directory)
    return directory


def metrics_of(workdir, split):
    metrics = json.loads((workdir / "summary.json").read_text())["metrics"]
    return {name: x for name, x in metrics.items() if name.startswith(f"{split}/")}


# Metrics.


def test_json_is_one_line_with_the_metrics_of_the_summary(smoke_run):
    """The command runs in a new process, so that its complete output is checked."""
    done = run_in_subprocess("eval.py", f"--workdir={smoke_run}", "--json")
    assert done.code == 0, done.errors
    assert done.errors == "note: Parameters are averaged over checkpoints 2, 4.\n"
    assert done.output.endswith("}\n") and done.output.count("\n") == 1
    assert json.loads(done.output) == {
        "config": "transformer_nmt",
        "checkpoint": "average",
        "step": 4,
        "overrides": {},
        "metrics": metrics_of(smoke_run, "test"),
        "paper": {},
    }


def test_table_contains_the_metrics_of_another_split(smoke_run, evaluate):
    output, _ = evaluate("--split=test_long")
    expected = metrics_of(smoke_run, "test_long")
    rows = dict(line.split() for line in output.splitlines() if line.startswith("test_long/"))
    assert rows == {name: f"{value:.4g}" for name, value in expected.items()}
    assert "average, step 4" in output and "decode.width=" not in output


def test_beam_flags_change_decoding_metrics_only(smoke_run, evaluate):
    expected = metrics_of(smoke_run, "test")
    before = (smoke_run / "config.json").read_bytes()
    result = json.loads(evaluate("--json", "--beam=1", "--length_penalty=0")[0])
    greedy = result["metrics"]
    assert {name for name in expected if greedy[name] != expected[name]} == {"test/chrf"}
    assert result["overrides"] == {
        "decode.width": 1,
        "decode.dev_width": 1,
        "decode.length_penalty": 0.0,
    }
    assert (smoke_run / "config.json").read_bytes() == before


@pytest.mark.parametrize("which", ["best", "latest"])
def test_checkpoint_reproduces_the_logged_dev_metrics(which, smoke_run, evaluate):
    lines = [json.loads(line) for line in (smoke_run / "metrics.jsonl").read_text().splitlines()]
    (dev,) = (line for line in lines if "dev/chrf" in line)
    result = json.loads(evaluate("--json", "--split=dev", f"--checkpoint={which}")[0])
    assert result["checkpoint"] == which and result["step"] == dev["step"]
    assert result["metrics"] == {name: x for name, x in dev.items() if name.startswith("dev/")}


def test_exported_weights_reproduce_the_metrics(smoke_run, exported_run):
    done = run_in_process("eval.py", f"--workdir={exported_run}", "--json")
    assert done.code == 0, done.errors
    result = json.loads(done.output)
    assert result["checkpoint"] == "weights" and result["step"] == 4
    assert result["metrics"] == metrics_of(smoke_run, "test")


def test_exported_weights_have_no_other_checkpoint(exported_run):
    done = run_in_process("eval.py", f"--workdir={exported_run}", "--checkpoint=best")
    assert done.code == 2
    expected = f"error: {exported_run} has no checkpoint but only weights: omit --checkpoint.\n"
    assert done.errors == expected


def test_checkpoints_take_precedence_over_exported_weights(smoke_run, exported_run, tmp_path):
    """The weights may be from before the run was continued."""
    copy = shutil.copytree(smoke_run, tmp_path / "copy")
    shutil.copy(exported_run / "weights.safetensors", copy)
    done = run_in_process("eval.py", f"--workdir={copy}", "--json")
    assert json.loads(done.output)["checkpoint"] == "average"


def test_evaluation_of_a_run_without_checkpoint_writes_nothing(smoke_run, tmp_path):
    shutil.copy(smoke_run / "config.json", tmp_path)
    done = run_in_process("eval.py", f"--workdir={tmp_path}")
    assert done.code == 2 and "has no checkpoint: train the run first" in done.errors
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_ensemble_of_a_run_with_itself_has_the_metrics_of_the_run(smoke_run, evaluate):
    result = json.loads(evaluate("--json", f"--workdir={smoke_run}")[0])
    assert result["ensemble"] == [str(smoke_run)] * 2
    expected = metrics_of(smoke_run, "test")
    assert result["metrics"] == {name: pytest.approx(x, rel=1e-5) for name, x in expected.items()}


def test_runs_with_different_vocabularies_are_no_ensemble(smoke_run, tmp_path):
    copy = shutil.copytree(smoke_run, tmp_path / "copy")
    path = copy / "vocabulary.model"
    model = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    model.pieces[-1].piece = "\u00e9"
    path.write_bytes(model.SerializeToString())
    done = run_in_process("eval.py", f"--workdir={smoke_run}", f"--workdir={copy}")
    assert done.code == 2 and "have different vocabularies: an ensemble needs" in done.errors
    done = run_in_process("eval.py", *[f"--workdir={smoke_run}"] * 2, "--caption=x.jpg")
    assert (done.code, done.errors) == (
        2,
        "error: Pass several --workdir only with --split, --translate, --instance or "
        "--alignments.\n",
    )


def test_alignments_need_a_vocabulary_of_words(smoke_run):
    done = run_in_process("eval.py", f"--workdir={smoke_run}", "--alignments=test.talp")
    assert done.code == 2
    assert "--alignments needs a model with attention and a vocabulary of words" in done.errors


# Translation.


def test_sentence_file_and_standard_input_have_the_same_translations(evaluate, tmp_path):
    file = tmp_path / "numbers.en"
    file.write_text("\n".join([SENTENCES[0], "", *SENTENCES]) + "\n")
    output, errors = evaluate(f"--translate={file}")
    one, empty, again, other = output.removesuffix("\n").split("\n")
    assert one == again != other and one and other and empty == ""
    assert "truncated" not in errors
    assert evaluate("--translate=-", stdin=file.read_bytes())[0] == output
    read_end, write_end = os.pipe()  # as in --translate=<(command)
    os.write(write_end, file.read_bytes())
    os.close(write_end)
    assert evaluate(f"--translate=/dev/fd/{read_end}")[0] == output
    os.close(read_end)
    assert evaluate(f"--translate={SENTENCES[1]}")[0] == f"{other}\n"


def test_truncated_sentences_are_counted(smoke_run, evaluate):
    """The maximum length is 24 tokens, including EOS."""
    from tasks.translation.data.vocabulary import SubwordVocabulary

    vocabulary = SubwordVocabulary.load(smoke_run / "vocabulary.model")
    assert metrics_of(smoke_run, "test_long")["test_long/truncated"] > 0
    long = "one million " * 20
    assert len(vocabulary.encode([long])[0]) > 23
    output, errors = evaluate("--translate=-", stdin=f"one\n{long}\ntwo\n{long}\n".encode())
    assert output.count("\n") == 4
    assert errors.endswith("note: 2 of 4 sentences were truncated to the model's maximum length\n")


def test_translation_does_not_load_the_corpus(evaluate):
    assert evaluate("--translate=", "--config.data.corpus=nowhere")[0] == "\n"


# Attention.


def test_view_and_file_have_the_attention_of_the_sentences(smoke_run, tmp_path):
    copy, file = shutil.copytree(smoke_run, tmp_path / "run"), tmp_path / "maps.npz"
    done = run_in_process(
        "eval.py",
        f"--workdir={copy}",
        "--view=-",
        f"--save_attention={file}",
        stdin=b"one\n\nten\n",
    )
    assert done.code == 0, done.errors
    page = copy / "attention.html"
    expected = "".join(f"Attention maps written to {path}.\n" for path in (page, file))
    assert done.output == expected
    maps = attention_maps.load(file)
    assert [record.example for record in maps] == ["one"] * 3 + ["ten"] * 3
    assert page.read_text() == viewer.page(maps, "transformer_nmt")
    for record in maps:
        np.testing.assert_allclose(record.weights.sum(-1), 1, atol=1e-5)


def test_view_without_a_value_shows_the_examples_of_the_run(smoke_run, tmp_path):
    copy = shutil.copytree(smoke_run, tmp_path / "run")
    done = run_in_process("eval.py", f"--workdir={copy}", "--view")
    assert done.code == 0, done.errors
    expected = (smoke_run / "figures" / "attention.html").read_text()
    assert (copy / "attention.html").read_text() == expected
    assert transformer_nmt.get_config("smoke").example in expected


@pytest.mark.slow
def test_run_in_a_read_only_directory_is_evaluated(smoke_run, tmp_path):
    """Tokens, packing plan and compiled programs cannot be stored."""
    copy = shutil.copytree(smoke_run, tmp_path / "run")
    shutil.rmtree(copy / "tokens")
    before = sorted(copy.rglob("*"))
    for directory in (copy, *(path for path in before if path.is_dir())):
        directory.chmod(0o555)
    # Without this capability, root too cannot write.
    unprivileged = ["setpriv", "--bounding-set=-dac_override"] * (os.geteuid() == 0)
    command = [*unprivileged, sys.executable, "eval.py", f"--workdir={copy}", "--json"]
    env = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(copy)}
    env |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["metrics"] == metrics_of(smoke_run, "test")
    assert sorted(copy.rglob("*")) == before


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="the kernel is available")
def test_fused_attention_is_replaced_without_a_gpu(smoke_run, tmp_path):
    copy = shutil.copytree(smoke_run, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config["model"]["implementation"] = "cudnn"
    (copy / "config.json").write_text(json.dumps(config))
    done = run_in_process("eval.py", f"--workdir={copy}", f"--translate={SENTENCES[0]}")
    assert done.errors.startswith("note: Without an NVIDIA GPU, model.implementation is 'xla'.\n")
    assert done.code == 0 and done.output.count("\n") == 1


# Checkpoints.


def test_corrupted_latest_checkpoint_is_skipped_with_a_note(smoke_run, tmp_path):
    copy = shutil.copytree(smoke_run, tmp_path / "copy")
    (data,) = (copy / "checkpoints/4/state").glob("d/*")
    data.write_bytes(b"\0" * data.stat().st_size)
    (copy / "checkpoints/6.orbax-checkpoint-tmp").mkdir()
    done = run_in_process("eval.py", f"--workdir={copy}", "--checkpoint=latest", "--translate=")
    assert (done.code, done.output) == (0, "\n")
    assert done.errors.startswith("note: Checkpoint 4 is corrupted (")
    assert done.errors.endswith("), checkpoint 6 is incomplete; using checkpoint 2 instead.\n")


def test_corrupted_checkpoints_cause_one_line_of_output(smoke_run, tmp_path):
    """The command runs in a new process, because reader threads may print until it exits."""
    copy = shutil.copytree(smoke_run, tmp_path / "copy")
    for file in ("2/state/manifest.ocdbt", "4/state/array_metadatas/process_0"):
        path = copy / "checkpoints" / file
        path.write_bytes(path.read_bytes()[:-10])
    done = run_in_subprocess("eval.py", f"--workdir={copy}", "--checkpoint=latest")
    assert (done.code, done.output, done.errors.count("\n")) == (2, "", 1)
    assert done.errors.startswith("error: All checkpoints in ")


def test_translation_run_does_not_support_instances(smoke_run):
    done = run_in_process("eval.py", f"--workdir={smoke_run}", f"--instance={__file__}")
    assert done.code == 2 and "The task 'translation' does not support --instance." in done.errors
