"""Entry points as a user runs them, and a text to give them."""

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
NUMBERS = "--config=configs/transformer_nmt.py:smoke"  # needs no data
TEXT = "--config=configs/transformer_multi30k.py:smoke"


class Done(NamedTuple):
    """How a command ended."""

    code: int
    output: str
    errors: str


def run_in_process(*argv: str, stdin: bytes = b"") -> Done:
    """`python *argv` in this process, which spares the imports."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(ROOT))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", DeprecationWarning)  # as Python does outside of tests
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(errors))
        stack.enter_context(mock.patch("sys.argv", list(argv)))
        stack.enter_context(mock.patch("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin))))
        for name in (
            "run.enable_compilation_cache",
            "mesh.set_cpu_device_count",
        ):  # JAX is as it is by now
            stack.enter_context(mock.patch(f"training.{name}", return_value=None))
        stack.callback(forget_flags, argv[0])
        stack.enter_context(fast_compilation())
        try:
            runpy.run_path(argv[0], run_name="__main__")
        except SystemExit as end:
            return Done(end.code or 0, output.getvalue(), errors.getvalue())
    raise AssertionError("an entry point ends with sys.exit")


def run_in_subprocess(*argv: str, stdin: bytes = b"") -> Done:
    """`python *argv` in a process of its own."""
    done = subprocess.run(
        [sys.executable, *argv],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        input=stdin,
        capture_output=True,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def run_with_devices(devices: int, *arguments: str) -> Any:
    """What Python says in its last line, as JSON, on a CPU that counts as so many devices."""
    split = f"--xla_force_host_platform_device_count={devices}"
    env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": split}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def forget_flags(script: str) -> None:
    """So that another may define its own of the same names."""
    for name in list(flags.FLAGS):
        if name.startswith("config.") or flags.FLAGS.find_module_defining_flag(name) == script:
            delattr(flags.FLAGS, name)


@contextlib.contextmanager
def fast_compilation():
    """What runs for a second need not be fast, and compiles in half the time if it is not."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@contextlib.contextmanager
def record_config_reads(config: ConfigDict, read: set[str]):
    """Adds to `read` the keys whose values the config is asked for, as 'train.steps'."""
    names: dict[int, list[str]] = {}  # several, where two keys have one section for their value

    def name(section, prefix):
        names.setdefault(id(section), []).append(prefix)
        for key, value in section.items():
            if isinstance(value, ConfigDict):
                name(value, f"{prefix}{key}.")

    def getitem(self, key):
        read.update(prefix + key for prefix in names.get(id(self), ()))
        return plain(self, key)

    name(config, "")
    plain = ConfigDict.__getitem__
    with mock.patch.object(ConfigDict, "__getitem__", getitem):
        yield


def write_text(folder: Path, **sizes: int) -> Path:
    """A parallel text of two languages without sense, `train=300` pairs and so on."""
    rng = np.random.default_rng(0)
    for stem, size in sizes.items():
        for language in ("en", "de"):
            words = rng.choice(list("abcdefgh"), (size, 6, 3))
            lines = [" ".join(map("".join, sentence)) for sentence in words]
            (folder / f"{stem}.{language}").write_text("\n".join(lines) + "\n")
    return folder


def write_words(folder: Path) -> Path:
    """A pronouncing dictionary of words without sense, in files of its splits."""
    rng = np.random.default_rng(0)
    for stem, size in (("train", 200), ("dev", 8), ("test", 8)):
        words = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(size)]
        lines = [f"{word}  {' '.join(word.upper()[::-1])}\n" for word in words]
        (folder / f"{stem}.txt").write_text("".join(lines))
    return folder
