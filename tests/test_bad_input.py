"""Whatever is wrong with a command, a workdir or a corpus gets one sentence and exit code 2."""

import json
import re
import urllib.error

import pytest

from tasks.translation.data import corpora, multi30k
from tasks.translation.data.pairs import TextPairs
from tests.commands import SMOKE_CONFIG, TEXT_CONFIG, run_in_process, run_in_subprocess, write_parallel_corpus
from training.errors import UserError


def sentence(done):
    """What a command said before it gave up."""
    assert done.code == 2 and done.output == "", done
    assert re.fullmatch(r"error: [^\n]+\n", done.errors), done.errors
    return done.errors


@pytest.fixture
def folder(tmp_path):
    """A parallel text that nothing is wrong with."""
    (tmp_path / "text").mkdir()
    return write_parallel_corpus(tmp_path / "text", train=40, dev=4, test=4)


@pytest.fixture
def train_on(tmp_path, folder):
    """`train.py` on the folder: it ends before a vocabulary is learnt, let alone a weight."""

    def command(run=run_in_process, corpus="text_files"):
        done = run(
            "train.py",
            TEXT_CONFIG,
            f"--config.data.corpus={corpus}",
            f"--config.data.dir={folder}",
            f"--workdir={tmp_path / 'run'}",
        )
        names = {path.name for path in (tmp_path / "run").iterdir()}
        assert names == {".lock", "config.json"}
        return sentence(done)

    return command


# Configs.


def test_a_misspelt_key_is_met_with_the_nearest():
    done = run_in_subprocess("train.py", SMOKE_CONFIG, "--config.model.widht=4")
    assert sentence(done).endswith("no key 'model.widht'. Did you mean 'model.width'?\n")


def test_a_misspelt_key_of_a_run_is_too(smoke_run):
    done = run_in_process("eval.py", f"--workdir={smoke_run}", "--config.decode.widht=4")
    assert sentence(done).endswith("no key 'decode.widht'. Did you mean 'decode.width'?\n")


def test_a_word_that_is_no_flag_is_not_passed_over(smoke_run):
    hint = "write flags as --name=value, and quote values that contain spaces.\n"
    done = run_in_process("train.py", SMOKE_CONFIG, "workdir=runs/x")
    assert sentence(done) == f"error: Unexpected argument 'workdir=runs/x': {hint}"
    done = run_in_process("eval.py", f"--workdir={smoke_run}", "--translate", "twenty", "one")
    assert sentence(done) == f"error: Unexpected argument 'one': {hint}"


@pytest.mark.parametrize(
    "flag",
    ["--config.train.steps=many", "--config.model.heads=1.5", "--config.model=7", "--confg=x"],
)
def test_a_flag_that_cannot_be_read(flag, tmp_path):
    sentence(run_in_process("train.py", SMOKE_CONFIG, flag, f"--workdir={tmp_path / 'run'}"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flag, said",
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
        ("train.keep=1", r"train.keep must be at least 2"),
        ("mesh.fsdp=3", "mesh"),
    ],
)
@pytest.mark.usefixtures("disable_type_checks")
def test_a_value_that_means_nothing(flag, said, tmp_path):
    done = run_in_process("train.py", SMOKE_CONFIG, f"--config.{flag}", f"--workdir={tmp_path}")
    assert re.search(said, done.errors.splitlines()[-1]), done.errors
    assert done.code == 2 and done.errors.startswith("error: ") and done.errors.count("\n") == 1
    assert not (tmp_path / "checkpoints/2").exists()


# Text.


def test_sides_of_unequal_length(folder, train_on):
    with (folder / "train.en").open("a") as file:
        file.write("one more\n")
    assert re.search(r"train\.en has 41 lines but \S+train\.de has 40: ", train_on(run_in_subprocess))


def test_an_empty_sentence(folder, train_on):
    lines = (folder / "dev.de").read_text().splitlines()
    (folder / "dev.de").write_text("\n".join([*lines[:2], " ", *lines[3:]]))
    assert re.search(r"dev\.de, line 3: empty, remove the pair", train_on())


def test_an_empty_side(folder, train_on):
    (folder / "test.de").write_bytes(b"")
    assert re.search(r"test\.de is empty: fill it or remove it", train_on())


def test_a_corpus_with_nothing_to_test_on(monkeypatch):
    parts = {"train": TextPairs(["one"], ["eins"]), "test": TextPairs([], [])}
    monkeypatch.setitem(corpora.CORPORA, "halves", lambda source, target: parts)
    with pytest.raises(UserError, match="data.corpus 'halves' has no pair for test"):
        corpora.load("halves", "en", "de")


def test_text_that_is_not_utf_8(folder, train_on):
    text = (folder / "train.de").read_bytes()
    (folder / "train.de").write_bytes(text.replace(b"\n", b"\nM\xfcnchen\n", 1))
    assert re.search(r"train\.de, line 2: not UTF-8, convert the file", train_on())


def test_a_corpus_neither_local_nor_reachable(folder, train_on, monkeypatch):
    def urlopen(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(multi30k.urllib.request, "urlopen", urlopen)
    for file in folder.iterdir():
        file.unlink()
    assert re.search(
        r"multi30k is not in \S+ and cannot be downloaded \(.*no route to host.*\): go online, or",
        train_on(corpus="multi30k"),
    )


def test_a_dataset_that_was_not_prepared(tmp_path):
    done = run_in_process(
        "train.py",
        "--config=configs/transformer_base_wmt14.py:smoke",
        f"--config.data.data_dir={tmp_path}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert re.search(
        r"prepare it once by `python -m tasks\.data\.prepare wmt14_translate/de-en --data_dir=",
        sentence(done),
    )


# Workdirs.


def test_a_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    done = run_in_process("train.py", SMOKE_CONFIG, f"--workdir={tmp_path}/file/run")
    assert f"Cannot write to {tmp_path}/file/run: " in sentence(done)


def test_a_workdir_made_by_another_config(smoke_run):
    done = run_in_process("train.py", SMOKE_CONFIG, "--config.seed=1", f"--workdir={smoke_run}")
    assert "belongs to a run with a different config: seed was 0 and is now 1" in sentence(done)
    assert json.loads((smoke_run / "config.json").read_text())["seed"] == 0


# Evaluation.


def test_an_empty_folder_is_no_run(tmp_path):
    done = run_in_subprocess("eval.py", f"--workdir={tmp_path}", "--json")
    assert sentence(done) == (
        f"error: {tmp_path} is not a run directory: it has no config.json.\n"
    )
    assert not any(tmp_path.iterdir())


def test_a_workdir_must_be_named():
    assert sentence(run_in_process("eval.py")) == "error: No run directory: pass --workdir=runs/NAME.\n"


def test_a_run_without_checkpoints(smoke_run, tmp_path):
    (tmp_path / "config.json").write_text((smoke_run / "config.json").read_text())
    done = run_in_process("eval.py", f"--workdir={tmp_path}")
    assert "has no checkpoint: train the run first" in sentence(done)
    assert not (tmp_path / "vocabulary.model").exists()


def test_a_run_that_lost_its_vocabulary_does_not_learn_another(smoke_run, tmp_path):
    (tmp_path / "config.json").write_text((smoke_run / "config.json").read_text())
    (tmp_path / "checkpoints").symlink_to(smoke_run / "checkpoints")
    for command in ("eval.py",), ("train.py", SMOKE_CONFIG):
        done = run_in_process(*command, f"--workdir={tmp_path}")
        assert "vocabulary.model is missing or damaged: restore the file" in sentence(done)
    assert not (tmp_path / "vocabulary.model").exists()


@pytest.mark.parametrize(
    "flags, said",
    [
        (
            ["--split=tset"],
            "choose from train, dev, test, test_long. Did you mean 'test'",
        ),
        (["--checkpoint=bset"], "checkpoint"),
        (["--beam=0"], "beam"),
        (["--translate=one", "--json"], "only one of --translate, --instance and --json"),
        (["--translate=-"], "standard input, line 2: not UTF-8"),
    ],
)
def test_what_a_run_cannot_be_asked(smoke_run, flags, said):
    done = run_in_process("eval.py", f"--workdir={smoke_run}", *flags, stdin=b"one\ntw\xff\n")
    assert said in sentence(done)
