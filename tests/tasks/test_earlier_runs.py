"""Runs of earlier versions are read with the keys of today's configs."""

import importlib
import json
from pathlib import Path

import pytest

import tasks
from tests import toy
from tests.training.runs import ROOT
from training import run

# Keys that version 0.1.0 did not have, with the values of its runs.
PLAIN_BEAM = {"search.kind": "beam", "search.width": 3}
POINTER = {"model.kind": "pointer", "model.init_limit": 0.0} | PLAIN_BEAM
TEXT = {"vocabulary.normalization": "none", "vocabulary.sample": 0, "max_training_length": 0}
RECURRENT = {"model.initialization": "glorot"}
NTM = {"model.gate_bias": 0.0, "model.shift_bias": 0.0, "model.erase_bias": 0.0}
NTM |= {"model.backward_clip": 0.0}
TRANSFORMER = {"model.positions": "sinusoidal", "model.max_length": 0, "model.remat": "none"}
NEW_KEYS = {
    "ntm_copy": NTM,
    "ptrnet_hull": POINTER,
    "ptrnet_tsp20_rl": POINTER | {"reinforce.starts": "first"},
    "sagan_digits": {"evaluation.intra_class_samples": 0},
    "seq2seq_g2p": RECURRENT | {"max_training_length": 0},
    "seq2seq_nmt": RECURRENT | TEXT,
    "snail_bandits": {"model.remat": "none"},
    "snail_fewshot": {"model.remat": "none"},  # runs of 0.1.0 lack more keys and are rejected
    "transformer_nmt": TRANSFORMER | TEXT,
}


def remove(config, key):
    """Remove a key, and its section if no other key remains."""
    section, _, name = key.rpartition(".")
    del (config[section] if section else config)[name]
    if section and not config[section]:
        del config[section]


@pytest.mark.parametrize("name", NEW_KEYS)
def test_run_of_version_0_1_0_has_the_keys_of_today(name, tmp_path):
    config = json.loads(importlib.import_module(f"configs.{name}").get_config().to_json())
    expected = run.flatten(config) | NEW_KEYS[name] | {"train.init_from": "none"}
    for key in [*NEW_KEYS[name], "train.init_from"]:
        remove(config, key)
    if "ptrnet" in name:
        config["decode"] = {"width": 3}
    (tmp_path / run.CONFIG).write_text(json.dumps(config))
    found = tasks.read_config(str(tmp_path))
    assert run.flat_values(found) == expected
    found_again = tasks.complete_config(json.loads(found.to_json()))
    assert run.flatten(found_again) == expected


@pytest.mark.parametrize("directory", sorted(ROOT.glob("results/*/config.json")), ids=str)
def test_config_of_published_weights_has_the_keys_of_today(directory):
    found = tasks.read_config(str(directory.parent))
    config = importlib.import_module(f"configs.{found.name}").get_config()
    keys = lambda config: {
        key for key in run.flat_values(config) if not key.startswith(("paper.", "rows"))
    }
    assert keys(found) == keys(config)


@pytest.mark.parametrize("package", ["", "my_earlier_package."])
def test_package_of_the_user_completes_its_runs(package, tmp_path, monkeypatch):
    text = "from tests.toy import build\n"
    complete = "def complete_config(config): return config | {'option': 1}\n"
    if package:
        Path(tmp_path / "my_earlier_package").mkdir()
        (tmp_path / "my_earlier_package/__init__.py").write_text(complete)
        (tmp_path / "my_earlier_package/my_earlier_task.py").write_text(text)
    else:
        (tmp_path / "my_earlier_task.py").write_text(text + complete)
    monkeypatch.syspath_prepend(tmp_path)
    config = toy.get_config()
    config.task = f"{package}my_earlier_task"
    assert tasks.complete_config(json.loads(config.to_json()))["option"] == 1
