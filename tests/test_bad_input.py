"""Invalid commands, run directories and corpora give a one-sentence error and exit code 2."""

import contextlib
import importlib
import json
import re
import urllib.error

import jax
import numpy as np
import pytest

from tests.commands import (
    SMOKE_CONFIG,
    TEXT_CONFIG,
    run_in_process,
    run_in_subprocess,
    write_parallel_corpus,
)


def error_of(done):
    """Return the error message of a command that failed."""
    assert done.code == 2, done
    assert done.output == "", done
    assert re.fullmatch(r"error: [^\n]+\n", done.errors), done.errors
    return done.errors


@pytest.fixture(scope="module")
def untrained_run(tmp_path_factory):
    """Run directory with a config, a vocabulary and an empty checkpoint."""
    import tasks  # not at the top: type checks are only added to modules imported after collection
    from training import run
    from training.checkpoints import Checkpoints

    workdir = tmp_path_factory.mktemp("run")
    config = importlib.import_module("configs.transformer_nmt").get_config("smoke")
    run.open_workdir(config, str(workdir))
    tasks.build(config, str(workdir)).check_data()
    with contextlib.closing(Checkpoints.from_config(str(workdir), config.train)) as checkpoints:
        checkpoints.save(4, {"step": np.zeros(1)}, jax.random.key(0), 0.0)
    return workdir


@pytest.fixture
def text(tmp_path):
    """Directory of a valid parallel corpus."""
    (tmp_path / "text").mkdir()
    return write_parallel_corpus(tmp_path / "text", train=40, dev=4, test=4)


@pytest.fixture
def train_on_text(tmp_path, text):
    """Run `train.py` on the corpus, and return its error."""

    def command(corpus="text_files"):
        done = run_in_process(
            "train.py",
            TEXT_CONFIG,
            f"--config.data.corpus={corpus}",
            f"--config.data.dir={text}",
            f"--workdir={tmp_path / 'run'}",
        )
        names = {path.name for path in (tmp_path / "run").iterdir()}
        assert names == {".lock", "config.json"}, "continued in spite of the error"
        return error_of(done)

    return command


# Configs.


def test_misspelled_train_key_suggests_the_closest_key():
    done = run_in_subprocess("train.py", SMOKE_CONFIG, "--config.model.widht=4")
    assert error_of(done).endswith("no key 'model.widht'. Did you mean 'model.width'?\n")


def test_misspelled_eval_key_suggests_the_closest_key(untrained_run):
    done = run_in_process("eval.py", f"--workdir={untrained_run}", "--config.decode.widht=4")
    assert error_of(done).endswith("no key 'decode.widht'. Did you mean 'decode.width'?\n")


def test_positional_argument_is_rejected(untrained_run):
    message = "write flags as --name=value, and quote values that contain spaces.\n"
    done = run_in_process("train.py", SMOKE_CONFIG, "workdir=runs/x")
    assert error_of(done) == f"error: Unexpected argument 'workdir=runs/x': {message}"
    done = run_in_process("eval.py", f"--workdir={untrained_run}", "--translate", "twenty", "one")
    assert error_of(done) == f"error: Unexpected argument 'one': {message}"


@pytest.mark.parametrize(
    "config, best",
    [
        ("transformer_nmt", "test/exact_match"),
        ("transformer_nmt", "dev/accuracy"),
        ("ptrnet_tsp", "dev/gap_n99"),
        ("sagan_digits", "dev/fid"),
        ("ntm_copy", "dev/excess_bits"),
        ("snail_bandits", "dev/reward_gittins"),
        ("ptrnet_tsp", "dev/lenght_n6"),
        ("captioning_scenes", "dev/bleu"),
        ("captioning_scenes", "dev/pointing_colour"),
    ],
)
def test_best_metric_that_is_not_evaluated_is_rejected_before_training(config, best, tmp_path):
    flags = f"--config=configs/{config}.py:smoke", f"--config.train.best={best}"
    done = run_in_process("train.py", *flags, f"--workdir={tmp_path}")
    assert f"train.best='{best}' is not a metric of the dev split in this config" in error_of(done)
    assert {path.name for path in tmp_path.iterdir()} <= {".lock", "config.json"}


@pytest.mark.parametrize(
    "flag, message",
    [
        ("train.average=3", "train.keep must be at least 3 for train.average=3, not 2"),
        ("train.best_mode=maximum", "train.best_mode must be 'max' or 'min', not 'maximum'"),
        ("model.dtype=int32", "dtype must be 'float32', 'bfloat16' or 'float16', not 'int32'"),
        ("train.init_from=w.safetensors", "w.safetensors"),
        ("mesh.data=7", "The mesh data=7 x fsdp=1 x tensor=1 does not fit"),
    ],
)
def test_invalid_value_is_rejected_before_the_vocabulary_is_learned(flag, message, tmp_path):
    done = run_in_process(
        "train.py",
        SMOKE_CONFIG,
        "--config.train.keep=2",
        f"--config.{flag}",
        f"--workdir={tmp_path}",
    )
    assert message in error_of(done)
    assert {path.name for path in tmp_path.iterdir()} <= {".lock", "config.json"}


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
@pytest.mark.parametrize("content", ['{"task": "translation"}', '{"train": {}}'])
def test_json_that_is_no_config_is_rejected(script, content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "metrics.jsonl").touch()
    config = [SMOKE_CONFIG] * (script == "train.py")
    done = run_in_process(script, *config, f"--workdir={tmp_path}")
    assert "config.json is not the config of a run: restore the file" in error_of(done)


def test_finished_run_is_evaluated_with_other_metrics_than_the_best(untrained_run):
    """`train.best` is checked before training only."""
    import tasks

    config = tasks.read_config(str(untrained_run))
    config.metrics = ("perplexity",)
    assert config.train.best not in {f"dev/{name}" for name in config.metrics}
    tasks.build(config, str(untrained_run))


@pytest.mark.parametrize(
    "flag",
    ["--config.train.steps=many", "--config.model.heads=1.5", "--config.model=7", "--confg=x"],
)
def test_unparsable_flag_is_rejected(flag, tmp_path):
    error_of(run_in_process("train.py", SMOKE_CONFIG, flag, f"--workdir={tmp_path / 'run'}"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flag, message",
    [
        ("batching.buckets=(24,12)", r"batching\.buckets"),
        ("vocabulary.size=7", r"vocabulary\.size"),
        ("vocabulary.size=70000", r"vocabulary\.size"),
        ("data.corpus=numbrs", "Did you mean 'numbers'"),
        ("data.target=dee", "num2words has no language 'dee'"),
        ("task=tranlation", "Did you mean 'translation'"),
        ("optimizer.schedule=cosin", "Did you mean 'cosine'"),
        ("architecture=transfomer", "Did you mean 'transformer'"),
        ("model.norm=both", "norm must be 'post' or 'pre', not 'both'"),
        ("model.dtype=float33", "float33"),
        ("model.implementation=flash", "not 'flash'"),
        pytest.param(
            "model.implementation=cudnn",
            "needs an NVIDIA GPU and model.dtype='bfloat16' .* --config.model.implementation=xla",
            marks=pytest.mark.skipif(jax.default_backend() == "gpu", reason="needs no GPU"),
        ),
        ("packing={'rows': 4}", "must be empty or have the positive integers rows, source_length,"),
        ("train.keep=1", r"train\.keep must be at least 2 for train\.average=2"),
        ("mesh.fsdp=3", "mesh"),
    ],
)
@pytest.mark.usefixtures("disable_type_checks")
def test_invalid_value_is_rejected(flag, message, tmp_path):
    done = run_in_process("train.py", SMOKE_CONFIG, f"--config.{flag}", f"--workdir={tmp_path}")
    assert done.code == 2
    assert re.fullmatch(r"error: [^\n]+\n", done.errors), done.errors
    assert re.search(message, done.errors)
    assert not (tmp_path / "checkpoints/2").exists()


# Text.


def test_parallel_files_of_different_lengths_are_rejected(text, train_on_text):
    with (text / "train.en").open("a") as file:
        file.write("one more\n")
    error = train_on_text()
    assert re.search(r"train\.en has 41 lines but \S+train\.de has 40: ", error)


def test_corpus_that_cannot_be_downloaded_is_rejected(text, train_on_text, monkeypatch):
    from tasks.translation.data import multi30k

    def urlopen(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(multi30k.urllib.request, "urlopen", urlopen)
    for file in text.iterdir():
        file.unlink()
    error = train_on_text("multi30k")
    assert re.search(r"Multi30k is not in \S+ and cannot be downloaded \(.*no route to", error)


def test_unprepared_dataset_is_rejected(tmp_path):
    done = run_in_process(
        "train.py",
        "--config=configs/transformer_base_wmt14.py:smoke",
        f"--config.data.data_dir={tmp_path}",
        f"--workdir={tmp_path / 'run'}",
    )
    command = r"`python -m tasks\.prepare wmt14_translate/de-en --data_dir="
    assert re.search(command, error_of(done))


# Run directories.


def test_unwritable_workdir_is_rejected(tmp_path):
    (tmp_path / "file").touch()
    done = run_in_process("train.py", SMOKE_CONFIG, f"--workdir={tmp_path}/file/run")
    assert f"Cannot write to {tmp_path}/file/run: " in error_of(done)


def test_workdir_of_another_config_is_rejected(untrained_run):
    (untrained_run / "metrics.jsonl").touch()
    done = run_in_process("train.py", SMOKE_CONFIG, "--config.seed=1", f"--workdir={untrained_run}")
    assert "seed was 0 and is now 1" in error_of(done)
    assert json.loads((untrained_run / "config.json").read_text())["seed"] == 0


@pytest.mark.parametrize("name", ["summary.json", "weights.safetensors"])
def test_results_without_checkpoints_are_not_overwritten(name, untrained_run, tmp_path):
    (tmp_path / "config.json").write_text((untrained_run / "config.json").read_text())
    (tmp_path / name).touch()
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    done = run_in_process("train.py", SMOKE_CONFIG, f"--workdir={tmp_path}")
    message = f"{tmp_path} has the results of a run ({name}) but no checkpoint to continue from"
    assert message in error_of(done)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_empty_directory_is_not_evaluated(tmp_path):
    done = run_in_process("eval.py", f"--workdir={tmp_path}", "--json")
    assert error_of(done) == f"error: {tmp_path} is not a run directory: it has no config.json.\n"
    assert not any(tmp_path.iterdir())


def test_evaluation_needs_a_workdir():
    for flags in ([], ["--workdir="]):
        done = run_in_process("eval.py", *flags)
        assert error_of(done) == "error: No run directory: pass --workdir=runs/NAME.\n"


def test_run_without_checkpoint_is_not_evaluated(untrained_run, tmp_path):
    (tmp_path / "config.json").write_text((untrained_run / "config.json").read_text())
    done = run_in_process("eval.py", f"--workdir={tmp_path}")
    assert "has no checkpoint: train the run first" in error_of(done)
    assert not (tmp_path / "vocabulary.model").exists()


def test_missing_vocabulary_is_not_trained_again(untrained_run, tmp_path):
    (tmp_path / "config.json").write_text((untrained_run / "config.json").read_text())
    (tmp_path / "checkpoints").symlink_to(untrained_run / "checkpoints")
    for command in ("eval.py",), ("train.py", SMOKE_CONFIG):
        done = run_in_process(*command, f"--workdir={tmp_path}")
        assert "vocabulary.model is missing or damaged: restore the file" in error_of(done)
    assert not (tmp_path / "vocabulary.model").exists()


def test_closed_standard_input_is_not_translated(untrained_run):
    for source in ("-", "/dev/stdin"):
        done = run_in_process(
            "eval.py", f"--workdir={untrained_run}", f"--translate={source}", stdin=None
        )
        message = f"error: Cannot read --translate={source}: standard input is closed.\n"
        assert error_of(done) == message


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--split=tset"], "choose from train, dev, test, test_long. Did you mean 'test'"),
        (["--checkpoint=bset"], "checkpoint"),
        (["--beam=0"], "beam"),
        (
            ["--translate=one", "--json"],
            "Pass only one of --translate, --instance, --caption, --view, --export and --json",
        ),
        (["--overwrite"], "--overwrite needs --instance"),
        (["--alignments_reversed"], "--alignments_reversed needs --alignments"),
        (["--alignments=x", "--export=y"], "Pass --alignments only with --split and --json"),
        (["--translate=-"], "standard input, line 2 is not UTF-8"),
        (["--translate=nowhere.en"], "There is no file nowhere.en: check the path, or pass"),
        (["--translate=nowhere.zh-CN"], "There is no file nowhere.zh-CN: "),
        (["--translate=no/where"], "There is no file no/where: "),
        (["--translate=/no where/text"], "There is no file /no where/text: "),
        (["--translate=tests"], "tests is a folder: pass a file of sentences, or a sentence by"),
    ],
)
def test_invalid_evaluation_flag_is_rejected(untrained_run, flags, message):
    done = run_in_process("eval.py", f"--workdir={untrained_run}", *flags, stdin=b"one\ntw\xff\n")
    assert message in error_of(done)
