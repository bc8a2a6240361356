"""Tests of runs with several processes: equality with one process, signals and failures."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import tasks
from tests.commands import SMOKE_CONFIG, xla_flags
from tests.training import two_hosts
from tests.training.runs import ROOT, final_metrics, logged_metrics, restore, toy_config, wait_for
from training import cli, supervisor
from training.checkpoints import Checkpoints

SHORT = ("--config.train.steps=8", "--config.train.checkpoint_every=4", "--config.train.average=1")
LONG = ("--config.train.steps=60", "--config.train.checkpoint_every=5", "--config.train.average=1")


def free_address():
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return f"localhost:{server.getsockname()[1]}"


def start_process(*command, devices=1, **environment):
    env = {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": xla_flags(devices),
    }
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | env | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def start_training(workdir, *flags, hosts=1, devices=1):
    """Start `train.py` in one or more processes of the same run."""
    command = ("train.py", SMOKE_CONFIG, f"--workdir={workdir}", *flags)
    if hosts == 1:
        return [start_process(*command, devices=devices)]
    connection = ("--distributed", f"--coordinator={free_address()}", f"--processes={hosts}")
    return [
        start_process(*command, *connection, f"--process_id={i}", devices=devices)
        for i in range(hosts)
    ]


def wait(processes):
    """Wait for all processes to succeed; return the output of each."""
    results = [(*process.communicate(timeout=600), process.returncode) for process in processes]
    assert [code for *_, code in results] == [0] * len(results), results
    return [output for output, *_ in results]


def finish(processes):
    """Wait for all processes to succeed; return the output of the primary process."""
    primary, *others = wait(processes)
    assert not any("Finished" in output for output in others), "only the primary process prints"
    return primary


def parameters(workdir, *flags):
    """Restore the parameters of the latest checkpoint on one device."""
    config = cli.parse_config(["train.py", SMOKE_CONFIG, *flags])
    task = tasks.build(config, str(workdir))
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        jax.eval_shape(task.init, jax.random.key(0)),
    )
    checkpoints = Checkpoints.from_config(str(workdir), config.train)
    state = checkpoints.restore(abstract).state
    checkpoints.close()
    return jax.tree.leaves(state.params)


def assert_all_close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-7)


def assert_same_metrics(workdir, expected_workdir):
    """Assert equal logged and final metrics, and the same files."""
    for a, b in zip(logged_metrics(workdir), logged_metrics(expected_workdir), strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-5)
    assert final_metrics(workdir) == pytest.approx(final_metrics(expected_workdir), rel=1e-5)
    files, expected_files = (
        sorted(p.name for p in w.iterdir()) for w in (workdir, expected_workdir)
    )
    assert files == expected_files


@pytest.fixture(autouse=True)
def repository_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def two_host_run(tmp_path_factory):
    """Run directory and outputs of a toy run on two hosts with two devices each."""
    workdir, address = tmp_path_factory.mktemp("hosts") / "run", free_address()
    command = ("-m", "tests.training.two_hosts", address)
    return workdir, wait(
        [start_process(*command, str(i), str(workdir), devices=2) for i in range(2)]
    )


def test_every_host_receives_mapped_and_gathered_results(two_host_run):
    for i, output in enumerate(two_host_run[1]):
        results = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
        assert results["is_primary"] == (i == 0)
        assert results["mapped"] == [[n % 2, list(range(n))] for n in range(5)]
        assert results["shards"] == ([0, 1, 2, 3] if i == 0 else [4, 5, 6, 7])
        assert results["gathered"] == list(range(8))
        assert results["devices"] == [i, i]


def test_training_on_two_hosts_equals_one_host(two_host_run, tmp_path):
    workdir, outputs = two_host_run
    assert ["Finished" in output for output in outputs] == [True, False]
    two_hosts.train(tmp_path)
    config = toy_config(**two_hosts.TOY_CHANGES)
    params, expected = (restore(w, config).state.params for w in (workdir, tmp_path))
    assert_all_close(jax.tree.leaves(params), jax.tree.leaves(expected))
    assert_same_metrics(workdir, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_transformer_training_on_two_hosts_equals_one_host(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    runs = [start_training(one, *SHORT, devices=2), start_training(two, *SHORT, hosts=2)]
    for processes in runs:
        assert "Finished" in finish(processes)
    assert_all_close(parameters(two, *SHORT), parameters(one, *SHORT))
    assert_same_metrics(two, one)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_killed_process_ends_its_peer_and_any_number_of_hosts_resumes(killed, tmp_path):
    """The run resumes on two hosts, on one, and on one with four devices, with equal metrics."""
    reference, work = tmp_path / "reference", tmp_path / "work"
    finish(start_training(reference, *LONG))
    processes = start_training(work, *LONG, hosts=2)
    wait_for(lambda: (work / "checkpoints/5").exists(), processes[0], seconds=300)
    processes[killed].kill()
    start = time.monotonic()
    other = processes[1 - killed]
    _, errors = other.communicate(timeout=120)
    assert time.monotonic() - start < 60
    assert other.returncode not in (0, None)
    assert errors.splitlines()[-1] == supervisor.PEER_FAILURE
    processes[killed].communicate()
    for i, counts in enumerate(({"hosts": 2}, {}, {"devices": 4})):
        shutil.copytree(work, copy := tmp_path / str(i))
        assert "resuming from" in finish(start_training(copy, *LONG, **counts))
        assert final_metrics(copy) == pytest.approx(final_metrics(reference), rel=1e-4)
        assert len(logged_metrics(copy)) == len(logged_metrics(reference))


@pytest.mark.slow
def test_signal_to_one_process_stops_all_processes_at_the_same_step(tmp_path):
    processes = start_training(tmp_path, *LONG, "--config.train.steps=5000", hosts=2)
    wait_for(lambda: (tmp_path / "checkpoints/5").exists(), processes[0], seconds=300)
    processes[1].send_signal(signal.SIGINT)
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [128 + signal.SIGTERM] * 2
    messages = {line for text in errors for line in text.splitlines() if "Stopped at" in line}
    assert len(messages) == 1 and "saved" in messages.pop()


def test_connection_without_distributed_is_an_error(tmp_path):
    process = start_process(
        "train.py", SMOKE_CONFIG, f"--workdir={tmp_path}/run", "--coordinator=a:1"
    )
    _, errors = process.communicate()
    assert process.returncode == 2
    assert errors == "error: --coordinator, --processes and --process_id need --distributed.\n"
    assert not (tmp_path / "run").exists()


def test_undetected_processes_are_an_error(tmp_path):
    command = ("train.py", SMOKE_CONFIG, f"--workdir={tmp_path}/run", "--distributed")
    process = start_process(*command, **{supervisor.SUPERVISED: "1"})
    _, errors = process.communicate()
    assert process.returncode == 2
    assert errors.startswith("error: The other processes of this run are unknown (")
    assert errors.count("\n") == 1 and not (tmp_path / "run").exists()
