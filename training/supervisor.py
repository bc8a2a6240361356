"""Supervisor of a training process that JAX may abort when another process of the run dies."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from training.signals import stop_signals

SUPERVISED = "ATTENTION_ATLAS_SUPERVISED"  # environment variable of the child process
PR_SET_PDEATHSIG = 1  # of prctl(2)
PEER_FAILURE = (
    "error: Another process of this run has ended or is unreachable, so this one has ended too; "
    "restart the run on all hosts, or on a different number, to resume from the last checkpoint."
)


def is_supervised() -> bool:
    """Return whether `supervise` started this process; if so, tie its lifetime to the supervisor's.

    On Linux the kernel then kills this process when its supervisor ends.
    """
    if SUPERVISED not in os.environ:
        return False
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return True


def supervise(command: Sequence[str]) -> int:
    """Run a command, forward stop signals to it, and return its exit code.

    If the command is aborted (SIGABRT), `PEER_FAILURE` is printed on its behalf.
    """
    processes: list[subprocess.Popen] = []
    received: list[int] = []

    def forward(number, frame):
        del frame
        received.append(number)
        for process in processes:
            process.send_signal(number)

    for number in stop_signals():
        signal.signal(number, forward)
    environment = os.environ | {SUPERVISED: "1"}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    processes.append(process)
    if received:  # before the process existed
        process.send_signal(received[0])
    code = process.wait()
    if code == -signal.SIGABRT:
        print(PEER_FAILURE, file=sys.stderr)
    return code if code >= 0 else 128 - code
