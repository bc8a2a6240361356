"""Traces of training steps."""

import gzip
import json

from tests import toy
from tests.training.runs import toy_config
from training.loop import fit
from training.profiler import DIRECTORY, SKIPPED


def profile(steps, workdir, **changes):
    config = toy_config(train__steps=10, **changes)
    fit(toy.build(config, workdir), config, str(workdir), profile=steps)
    (path,) = workdir.glob(f"{DIRECTORY}/plugins/profile/*/perfetto_trace.json.gz")
    with gzip.open(path) as file:
        events = json.load(file)["traceEvents"]
    return [int(event["args"]["step_num"]) for event in events if event.get("name") == "train"]


def test_trace_has_the_requested_steps(tmp_path, capsys):
    assert profile(4, tmp_path) == [SKIPPED + n for n in range(4)]
    assert f"Profile written to {tmp_path / DIRECTORY}" in capsys.readouterr().out


def test_trace_of_a_short_run_is_written(tmp_path):
    assert profile(100, tmp_path) == [*range(SKIPPED, 10)]


def test_run_without_profile_writes_no_trace(tmp_path):
    config = toy_config(train__steps=10)
    fit(toy.build(config, tmp_path), config, str(tmp_path))
    assert not (tmp_path / DIRECTORY).exists()
