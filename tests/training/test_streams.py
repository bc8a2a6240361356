"""Standard streams that are closed, lose their reader, or cannot encode a character."""

import io
import os
import subprocess
import sys

import pytest

from tests.commands import ROOT
from training import streams
from training.console import Console


def run_python(code, *redirections):
    """Run code that imports `training.streams`; return its exit code, output and errors."""
    script = f'exec "$0" -c "$1" {" ".join(redirections)}'
    command = ["sh", "-c", script, sys.executable, f"from training.streams import *\n{code}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def run_without_reader(code):
    """Run code whose output is read by no process; return its exit code and errors."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-c", f"from training.streams import *\nimport sys\n{code}"]
    done = subprocess.run(command, cwd=ROOT, stdout=write_end, stderr=subprocess.PIPE, text=True)
    os.close(write_end)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("encoding", "sample"),
    [
        ("ascii", rb"\xdcbung \u65e5\u672c"),
        ("latin-1", b"\xdcbung " + rb"\u65e5\u672c"),
        ("utf-8", "Übung 日本".encode()),
    ],
)
def test_characters_outside_of_the_encoding_are_escaped(encoding, sample, monkeypatch):
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(buffer, encoding=encoding))
    streams.configure_streams()
    console = Console(10, "tokens")
    console.print("Übung 日本")
    assert buffer.getvalue() == sample + b"\n"
    console.report(1, 0.5)  # contains a middle dot
    assert b"step 1/10" in buffer.getvalue()


def test_chosen_error_handler_is_kept(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii", errors="replace"))
    streams.configure_streams()
    assert sys.stdout.errors == "replace"


def test_closed_streams_write_to_the_null_device():
    code = """
configure_streams()
import os, sys
print("lost"); print("lost", file=sys.stderr)
assert open(os.devnull).fileno() > 2
assert [os.path.samestat(os.fstat(i), os.stat(os.devnull)) for i in range(3)] == [True] * 3
assert sys.stdin is None
os._exit(7)
"""
    assert run_python(code, "<&-", ">&-", "2>&-") == (7, "", "")


@pytest.mark.parametrize(
    "code",
    [
        "with exit_on_closed_output(): print('x')",
        "with exit_on_closed_output(): print('x' * 100_000)",
        "with exit_on_closed_output(): print('x'); sys.exit(1)",  # as for --help
        # The console goes on after the error.
        "from training.console import Console\n"
        "with exit_on_closed_output(): Console(1, '').print('x'); print('y', file=sys.stderr)",
    ],
)
def test_output_without_a_reader_exits_with_the_code_of_sigpipe(code):
    errors = "y\n" if "'y'" in code else ""
    assert run_without_reader(code) == (141, errors)


def test_error_of_another_pipe_is_not_hidden():
    with pytest.raises(BrokenPipeError), streams.exit_on_closed_output():
        raise BrokenPipeError(32, "Broken pipe")
