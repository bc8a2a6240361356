"""Config values on the command line are parsed to the type of the config, or rejected."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from tests.commands import ROOT
from training import cli
from training.errors import UserError

# ml_collections loads config files with a method that is deprecated in Python 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
NMT = f"--config={ROOT}/configs/transformer_nmt.py:smoke"
FILES = sorted(str(file) for file in ROOT.glob("configs/*.py"))
LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda x: st.lists(x) | st.lists(x).map(tuple) | st.dictionaries(st.text() | st.integers(), x),
    max_leaves=5,
)
NUMBERS = st.integers() | st.floats() | st.integers(min_value=0).map(hex)
VALUES = st.text() | NUMBERS.map(str) | LITERALS.map(repr)


def parse_or_reject(argv):
    """Return the config of a command line, or None if it is rejected by one line of text."""
    try:
        return cli.parse_config(argv)
    except UserError as error:
        message = str(error)
    assert message and "\n" not in message
    return None


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("train.steps=1e3", 1000),
        ("train.steps=0x10", 16),
        ("mesh.fsdp=-1", -1),
        ("decode.length_penalty=1", 1.0),
        ("batching.buckets=12", (12,)),
        ("batching.buckets=[12,24]", (12, 24)),
        ("lengths=()", ()),
        ("metrics=bleu", ("bleu",)),
        ("model.norm=1", "1"),
    ],
)
def test_values_have_the_types_of_the_config(flag, value, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = cli.parse_config(["train.py", NMT, f"--config.{flag}"])
    parsed = dict(cli.config_items(config))[flag.split("=")[0]]
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("sagan_imagenet128", "evaluation.intra_class_samples"),  # omits intra_fid
        ("seq2seq_luong_wmt14", "max_training_length"),  # no limit
        ("transformer_base_wmt14", "vocabulary.sample"),  # all sentences
    ],
)
def test_zero_is_valid_where_it_has_a_meaning(name, key, monkeypatch):
    monkeypatch.chdir(ROOT)
    flags = [f"--config=configs/{name}.py", f"--config.{key}=0"]
    assert dict(cli.config_items(cli.parse_config(["train.py", *flags])))[key] == 0


def test_sections_with_optional_keys_can_be_replaced(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = cli.parse_config(["train.py", NMT, "--config.packing={}"])
    assert dict(config.packing) == {}
    labels = "--config.data.labels={'solver': 'held_karp'}"
    config = cli.parse_config(["train.py", "--config=configs/ptrnet_tsp20.py", labels])
    assert dict(config.data.labels) == {"solver": "held_karp"}


def test_values_of_all_configs_are_valid():
    for file in ROOT.glob("configs/*.py"):
        config = cli.load_config(str(file))
        for key, value in cli.config_items(config):
            if not isinstance(value, ConfigDict | bool):
                cli.check_value(key, value, value)
                assert cli.parse_value(key, value, str(value)) == value, (file, key)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(st.data())
def test_any_value_is_parsed_or_rejected(data):
    file = data.draw(st.sampled_from(FILES))
    default = dict(cli.config_items(cli.load_config(file)))
    argv = ["train.py", f"--config={file}"]
    for _ in range(data.draw(st.integers(1, 2))):
        flag = f"--config.{data.draw(st.sampled_from(sorted(default)))}"
        value = data.draw(VALUES)
        argv += [flag, value] if data.draw(st.booleans()) else [f"{flag}={value}"]
    config = parse_or_reject(argv)
    for key, value in cli.config_items(config or ConfigDict()):
        if key in default:
            assert type(value) is type(default[key]), key


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(st.lists(st.text() | st.from_regex(r"-{1,2}(no)?config(\.[a-z]{1,9}){0,2}(\[\w*\])?(=.*)?")))
def test_any_flags_are_parsed_or_rejected(flags):
    parse_or_reject(["train.py", NMT, *flags])
