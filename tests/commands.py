"""Helpers that run the entry points, and small text datasets for them."""

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

ROOT = Path(__file__).parents[1]
SMOKE_CONFIG = "--config=configs/transformer_nmt.py:smoke"  # generates its data
TEXT_CONFIG = "--config=configs/transformer_multi30k.py:smoke"


class CommandResult(NamedTuple):
    """Exit code, standard output and standard error of a command."""

    code: int
    output: str
    errors: str


def run_in_process(*argv: str, stdin: bytes | None = b"", cwd: Path | str = ROOT) -> CommandResult:
    """Run `python *argv` in this process, which avoids the startup time of an interpreter.

    Args:
        argv: path of an entry point and its arguments.
        stdin: standard input, or None if it is closed.
        cwd: working directory.
    """
    source = None if stdin is None else io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(cwd))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's default outside of tests
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(errors))
        stack.enter_context(mock.patch("sys.argv", list(argv)))
        stack.enter_context(mock.patch("sys.stdin", source))
        # JAX is already initialized.
        for name in (
            "run.enable_compilation_cache",
            "mesh.set_cpu_device_count",
            "xla_flags.set_xla_flags",
        ):
            stack.enter_context(mock.patch(f"training.{name}", return_value=None))
        stack.callback(_delete_flags, argv[0])
        stack.enter_context(fast_compilation())
        try:
            runpy.run_path(argv[0], run_name="__main__")
        except SystemExit as end:
            return CommandResult(end.code or 0, output.getvalue(), errors.getvalue())
    raise AssertionError(f"{argv[0]} did not call sys.exit")


def run_in_subprocess(*argv: str, stdin: bytes = b"") -> CommandResult:
    """Run `python *argv` in a new process."""
    done = subprocess.run(
        [sys.executable, *argv],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        input=stdin,
        capture_output=True,
    )
    return CommandResult(done.returncode, done.stdout.decode(), done.stderr.decode())


def run_with_devices(devices: int, *arguments: str) -> Any:
    """Run Python in a process with several CPU devices, and parse its last line as JSON."""
    env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags(devices)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run_without_xla_flags(code: str) -> str:
    """Run Python code in a process with the CPU devices that it sets itself; return its output."""
    env = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=env | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def xla_flags(devices: int) -> str:
    """Return the `XLA_FLAGS` of this process with another number of CPU devices."""
    return f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"


def _delete_flags(script: str) -> None:
    """Delete the flags of an entry point, so that another can define flags of the same names."""
    for name in list(flags.FLAGS):
        if name.startswith("config.") or flags.FLAGS.find_module_defining_flag(name) == script:
            delattr(flags.FLAGS, name)


@contextlib.contextmanager
def fast_compilation():
    """Compile with few optimizations, which halves the compile time."""
    previous = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", previous)


@contextlib.contextmanager
def record_config_reads(config: ConfigDict, read: set[str]):
    """Add the keys whose values are read, such as 'train.steps', to `read`."""
    names: dict[int, list[str]] = {}  # several if two keys share a section

    def name(section, prefix):
        names.setdefault(id(section), []).append(prefix)
        for key, value in section.items():
            if isinstance(value, ConfigDict):
                name(value, f"{prefix}{key}.")

    def getitem(self, key):
        read.update(prefix + key for prefix in names.get(id(self), ()))
        return original(self, key)

    name(config, "")
    original = ConfigDict.__getitem__
    with mock.patch.object(ConfigDict, "__getitem__", getitem):
        yield


def write_parallel_corpus(directory: Path, **sizes: int) -> Path:
    """Write random sentence pairs, `train=300` of them to train.en and train.de and so on."""
    rng = np.random.default_rng(0)
    for split, size in sizes.items():
        for language in ("en", "de"):
            words = rng.choice(list("abcdefgh"), (size, 6, 3))
            lines = [" ".join(map("".join, sentence)) for sentence in words]
            (directory / f"{split}.{language}").write_text("\n".join(lines) + "\n")
    return directory


def write_pronunciations(directory: Path) -> Path:
    """Write a pronouncing dictionary of random words, one file per split."""
    rng = np.random.default_rng(0)
    for split, size in (("train", 200), ("dev", 8), ("test", 8)):
        words = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(size)]
        lines = [f"{word}  {' '.join(word.upper()[::-1])}\n" for word in words]
        (directory / f"{split}.txt").write_text("".join(lines))
    return directory
