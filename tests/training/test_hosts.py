"""Several processes are one run: the same numbers, the same end, and a sentence if one dies."""

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
from tests.commands import NUMBERS
from tests.training.runs import ROOT, measures, record, wait_for
from training import cli, watcher
from training.checkpoints import Checkpoints

SHORT = ("--config.train.steps=8", "--config.train.checkpoint_every=4", "--config.train.average=1")
LONG = ("--config.train.steps=60", "--config.train.checkpoint_every=5", "--config.train.average=1")
TALK = """
import json, sys
import jax, numpy as np
from training import hosts, mesh

hosts.initialize_distributed(sys.argv[1], 2, int(sys.argv[2]))
dealt = [
    (who, x.tolist())
    for who, x in hosts.map_over_hosts(
        lambda i: (jax.process_index(), np.arange(i)), iter(range(5))
    )
]
batch = mesh.shard_batch({"x": np.arange(8)}, mesh.make_mesh(data=2, fsdp=1, tensor=1))
mine = [row for shard in batch["x"].addressable_shards for row in shard.data.tolist()]
whole = hosts.all_gather(batch)["x"].tolist()
print(json.dumps([hosts.is_primary(), dealt, mine, whole]))
"""


def processes(*command, hosts=1, devices=1):
    """Starts `command`, as a process or as several that know each other."""
    env = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    who = [
        ("--distributed", f"--coordinator={address}", f"--processes={hosts}", f"--process_id={i}")
        for i in range(hosts)
    ]
    pipe = subprocess.PIPE
    return [
        subprocess.Popen(
            [sys.executable, *command, *(flags if hosts > 1 else ())],
            cwd=ROOT,
            env=env,
            text=True,
            stdout=pipe,
            stderr=pipe,
        )
        for flags in who
    ]


def start(workdir, *flags, **counts):
    return processes("train.py", NUMBERS, f"--workdir={workdir}", *flags, **counts)


def finish(started):
    """What the first of them printed, when all have ended well."""
    ends = [(process.communicate(timeout=600), process.returncode) for process in started]
    assert [code for _, code in ends] == [0] * len(ends), ends
    assert all(not output.count("Finished") for (output, _), _ in ends[1:]), "the first alone talks"
    return ends[0][0][0]


def parameters(workdir, *flags):
    """Of the latest checkpoint, on one device."""
    config = cli.read_config(["train.py", NUMBERS, *flags])
    task = tasks.build(config, str(workdir))
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one),
        jax.eval_shape(task.init, jax.random.key(0)),
    )
    checkpoints = Checkpoints.of(str(workdir), config.train)
    state = checkpoints.restore(abstract).state
    checkpoints.close()
    return [np.asarray(x) for x in jax.tree.leaves(state.params)]


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_two_processes_train_the_transformer_as_one_does(tmp_path):
    """On as many devices in all: parameters, losses and measures, every one of them."""
    one, two = tmp_path / "one", tmp_path / "two"
    both = [start(one, *SHORT, devices=2), start(two, *SHORT, hosts=2)]
    for started in both:
        assert "Finished" in finish(started)
    for a, b in zip(parameters(one, *SHORT), parameters(two, *SHORT), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-7)
    for a, b in zip(record(one), record(two), strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(list(b.values()), list(a.values()), rtol=1e-5)
    assert measures(one) == pytest.approx(measures(two), rel=1e-5)
    assert sorted(path.name for path in two.iterdir()) == sorted(p.name for p in one.iterdir())


def test_work_is_dealt_out_and_rows_are_split():
    """Without overlap or loss."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TALK, address, str(i)],
            cwd=ROOT,
            env=env,
            text=True,
            stdout=subprocess.PIPE,
        )
        for i in range(2)
    ]
    said = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    for i, (first, dealt, mine, whole) in enumerate(said):
        assert first == (i == 0)
        assert dealt == [[n % 2, list(range(n))] for n in range(5)]
        assert mine == [0, 1, 2, 3] if i == 0 else mine == [4, 5, 6, 7]
        assert whole == list(range(8))


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_one_that_dies_ends_the_other_and_any_number_goes_on(killed, tmp_path):
    """Killed and resumed by two, by one, and by one with four devices: the same evaluation."""
    alone, work = tmp_path / "alone", tmp_path / "work"
    finish(start(alone, *LONG))
    started = start(work, *LONG, hosts=2)
    wait_for(lambda: (work / "checkpoints/5").exists(), started[0], seconds=300)
    started[killed].kill()
    began = time.monotonic()
    other = started[1 - killed]
    _, errors = other.communicate(timeout=120)
    assert time.monotonic() - began < 60
    assert other.returncode not in (0, None)
    assert errors.splitlines()[-1] == watcher.SENTENCE
    started[killed].communicate()
    for i, counts in enumerate(({"hosts": 2}, {}, {"devices": 4})):
        shutil.copytree(work, copy := tmp_path / str(i))
        assert "resuming from" in finish(start(copy, *LONG, **counts))
        assert measures(copy) == pytest.approx(measures(alone), rel=1e-4)
        assert len(record(copy)) == len(record(alone))


@pytest.mark.slow
def test_a_signal_to_one_stops_all_at_the_same_step(tmp_path):
    started = start(tmp_path, *LONG, "--config.train.steps=5000", hosts=2)
    wait_for(lambda: (tmp_path / "checkpoints/5").exists(), started[0], seconds=300)
    started[1].send_signal(signal.SIGINT)
    ends = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [128 + signal.SIGTERM] * 2
    said = {line for text in ends for line in text.splitlines() if "Stopped at step" in line}
    assert len(said) == 1 and "saved; the same command resumes." in said.pop()


def watch(script):
    code = "import sys; from training import watcher; sys.exit(watcher.watch(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "sh", "-c", script]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=pipe, stderr=pipe)


@pytest.mark.parametrize(
    "script, code, sentence",
    [("exit 3", 3, ""), ("kill -ABRT $$", 134, watcher.SENTENCE + "\n"), ("kill $$", 143, "")],
)
def test_a_watcher_ends_as_what_it_watches(script, code, sentence):
    process = watch(script)
    assert process.communicate() == ("", sentence)
    assert process.returncode == code


def test_a_watcher_passes_signals_on():
    process = watch("trap 'echo saved; exit 5' TERM; echo ready; while :; do sleep 0.02; done")
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate() == ("saved\n", "") and process.returncode == 5


def test_processes_that_nobody_told_of_each_other_are_a_sentence(tmp_path):
    command = [sys.executable, "train.py", NUMBERS, f"--workdir={tmp_path}/run", "--distributed"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: The other processes of this run are not known (")
    assert done.stderr.count("\n") == 1 and not (tmp_path / "run").exists()
