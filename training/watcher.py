"""A process around one that JAX may abort without a word, when another of its run has died."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from training.signals import watched

MARK = "ATTENTION_ATLAS_WATCHED"
PR_SET_PDEATHSIG = 1  # of prctl(2)
SENTENCE = (
    "error: Another process of this run has ended or cannot be reached, so this one has ended too; "
    "start it again on all hosts, or on more or fewer, and it goes on from the last checkpoint."
)


def is_watched() -> bool:
    """Whether `watch` has started this process; if so, it ends when its watcher does."""
    if MARK not in os.environ:
        return False
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return True


def watch(command: Sequence[str]) -> int:
    """Runs a command, passes signals to stop on to it, and returns its exit code.

    If it is aborted, the sentence that it could not say is said here.
    """
    processes: list[subprocess.Popen] = []
    early: list[int] = []

    def pass_on(number, frame):
        del frame
        early.append(number)
        for process in processes:
            process.send_signal(number)

    for number in watched():
        signal.signal(number, pass_on)
    process = subprocess.Popen(command, env=os.environ | {MARK: "1"}, start_new_session=True)
    processes.append(process)
    if early:  # before there was anyone to tell
        process.send_signal(early[0])
    code = process.wait()
    if code == -signal.SIGABRT:
        print(SENTENCE, file=sys.stderr)
    return code if code >= 0 else 128 - code
