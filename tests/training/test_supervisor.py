"""Tests of the supervisor of a training process."""

import subprocess
import sys

import pytest

from tests.training.runs import ROOT
from training import supervisor


def start_supervisor(script):
    code = (
        "import sys; from training.supervisor import supervise; sys.exit(supervise(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "sh", "-c", script]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=pipe, stderr=pipe)


@pytest.mark.parametrize(
    "script, code, message",
    [
        ("exit 3", 3, ""),
        ("kill -ABRT $$", 134, supervisor.PEER_FAILURE + "\n"),
        ("kill $$", 143, ""),
    ],
)
def test_supervisor_returns_the_exit_code_of_its_command(script, code, message):
    process = start_supervisor(script)
    assert process.communicate() == ("", message)
    assert process.returncode == code


def test_supervisor_forwards_signals():
    script = "trap 'echo saved; exit 5' TERM; echo ready; while :; do sleep 0.02; done"
    process = start_supervisor(script)
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate() == ("saved\n", "") and process.returncode == 5
