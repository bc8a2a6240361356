"""Run directories: creation, locking, config check and summary."""

import contextlib
import errno
import fcntl
import json
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from training import hosts, mesh, weights
from training.errors import UserError
from training.files import atomic_write

CONFIG, DATA, SUMMARY, LOCK = "config.json", "data.json", "summary.json", ".lock"
# Files that exist before the task is built. Hidden files, which other hosts may be writing, are
# ignored.
INITIAL_FILES = {CONFIG, "log.txt"}
# Errors of file systems that do not support locks.
LOCKS_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
# Config keys that may change when a run is resumed, because they do not affect the training.
MUTABLE_KEYS = re.compile(
    r"mesh\..*|cpu_devices|train\.(log_every|best|best_mode)|.*\.(data_)?dir|rows|paper\..*"
)
# Keys of weight files, which may move when a run is resumed. A key that had a file must keep one.
MOVABLE_KEYS = re.compile(r".*_weights|train\.init_from")
# Parts of a path with which orbax loses checkpoints: it uses the path as a pattern ('*', '?', '['),
# a backslash and ':/' as separators, and UTF-8.
UNSUPPORTED_PATH = re.compile(r"[*?\[\\]|:(?=/)|[\udc80-\udcff]")
# Adds the keys of today's configs to the content of the `config.json` of an earlier version.
CompleteConfig = Callable[[dict[str, Any]], dict[str, Any]]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


def enable_compilation_cache() -> None:
    """Enable JAX's persistent compilation cache.

    The environment variable `JAX_COMPILATION_CACHE_DIR` overrides its directory. If the directory
    cannot be used, programs are compiled again by the next process, and JAX's warning about each of
    them is suppressed.
    """
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        cache = os.path.expanduser("~/.cache/attention_atlas/xla")
        jax.config.update("jax_compilation_cache_dir", cache)


def ignore_jax_flags() -> None:
    """Ignore the environment variables of JAX that training does not support."""
    reasons = {
        "jax_enable_x64": "the config sets the dtypes",
        "jax_disable_jit": "steps are compiled in advance",
    }
    for name, reason in reasons.items():
        if getattr(jax.config, name):
            jax.config.update(name, False)
            print(f"note: {name.upper()} is ignored: {reason}.", file=sys.stderr)


def make_writable_dir(path: Path) -> None:
    """Create a directory if it does not exist.

    Raises:
        UserError: if it is not writable.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / ".writable").touch()
        (path / ".writable").unlink(missing_ok=True)  # another process may have removed it
    except OSError as error:
        raise UserError(f"Cannot write to {path}: {error.strerror}.") from error


def make_workdir(workdir: str | Path) -> Path:
    """Create a run directory if it does not exist, and return its path.

    Raises:
        UserError: if it is not writable, or checkpoints that are written there cannot be read.
    """
    path = Path(workdir)
    absolute = f"{path.resolve()}/"
    if unsupported := UNSUPPORTED_PATH.search(absolute):
        raise UserError(
            f"Checkpoints cannot be stored in {absolute[:-1]}, because its path contains "
            f"{unsupported[0]!r}: use a --workdir without this character in its absolute path."
        )
    make_writable_dir(path)
    return path


def open_workdir(config: Any, workdir: str, complete: CompleteConfig = dict) -> None:
    """Create the directory of a new run, or check an existing one; write `config.json`.

    Args:
        config: config of the run.
        workdir: run directory.
        complete: completes the config of a run of an earlier version.

    Raises:
        UserError: if it is not writable, is unsupported by orbax, belongs to a run with a
            different config, or has the results of a run without its checkpoints.
    """
    path = make_workdir(workdir)
    check_same_config(config, workdir, complete)
    results = [name for name in (SUMMARY, weights.FILE) if (path / name).exists()]
    if results and not any(path.glob("checkpoints/[0-9]*")):
        raise UserError(
            f"{workdir} has the results of a run ({', '.join(results)}) but no checkpoint to "
            "continue from: use a different --workdir."
        )
    if hosts.is_primary():
        write_json(path / CONFIG, json.loads(config.to_json_best_effort()))


@contextlib.contextmanager
def lock_workdir(workdir: str) -> Iterator[None]:
    """Lock the run directory against other training processes; only the primary process locks.

    Raises:
        UserError: if another process holds the lock, or the directory is not writable or
            unsupported by orbax.
    """
    if not hosts.is_primary():
        yield
        return
    with open(make_workdir(workdir) / LOCK, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"Another process is training in {workdir}: wait until it ends, or use a different "
                "--workdir."
            ) from error
        except OSError as error:
            if error.errno not in LOCKS_UNSUPPORTED:
                raise
        yield


def read_config(workdir: str, complete: CompleteConfig = dict) -> ConfigDict:
    """Read the config of a run; the result is locked.

    Args:
        workdir: run directory.
        complete: completes the config of a run of an earlier version.

    Raises:
        UserError: if the directory is not a run directory.
    """
    path = Path(workdir) / CONFIG
    if not path.is_file():
        raise UserError(f"{workdir} is not a run directory: it has no {CONFIG}.")
    return ConfigDict(_lists_to_tuples(complete(_read_stored(path)))).lock()


def _read_stored(path: Path) -> dict[str, Any]:
    """Read a `config.json` and check that it has the keys that every run has."""
    stored = read_json(path)
    if not isinstance(stored.get("task"), str) or not isinstance(stored.get("train"), dict):
        raise UserError(f"{path} is not the config of a run: restore the file.")
    return stored


def _lists_to_tuples(value: Any) -> Any:
    """Convert the lists of parsed JSON to tuples, the sequence type of configs."""
    if isinstance(value, dict):
        return {key: _lists_to_tuples(part) for key, part in value.items()}
    return tuple(map(_lists_to_tuples, value)) if isinstance(value, list) else value


def check_same_config(config: Any, workdir: str, complete: CompleteConfig = dict) -> None:
    """Check that a run directory belongs to a run with this config.

    A directory whose run ended before its task was built, for example because of an invalid value,
    may be reused with any config.

    Args:
        config: config of the run.
        workdir: run directory.
        complete: completes the config of a run of an earlier version.

    Raises:
        UserError: if the configs differ; the message names the first key whose values differ.
    """
    path = Path(workdir)
    names = {x.name for x in path.glob("[!.]*")}
    if CONFIG not in names or names <= INITIAL_FILES:
        return
    stored = _read_stored(path / CONFIG)
    if stored.get("task") == config.task:  # otherwise the message below names the tasks
        stored = complete(stored)
    theirs = flatten(stored)
    ours = flat_values(config)
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        old, new = theirs.get(key, "absent"), ours.get(key, "absent")
        extended = key in ("train.steps", "optimizer.steps") and _is_less(old, new)
        if extended and key == "optimizer.steps" and ours.get("optimizer.schedule") == "cosine":
            raise UserError(
                f"The learning rate schedule of {path} ends at step {old}, so the run cannot be "
                "extended: use a different --workdir."
            )
        are_files = all(isinstance(x, str) and x not in ("", "none") for x in (old, new))
        moved = are_files and MOVABLE_KEYS.fullmatch(key)
        # Compared as JSON, where NaN equals itself.
        if json.dumps(old) == json.dumps(new) or extended or moved or MUTABLE_KEYS.fullmatch(key):
            continue
        trained = any(any(path.glob(x)) for x in ("checkpoints/[0-9]*", "*.safetensors"))
        remedy = "use" if trained else "the run has no checkpoint: remove the directory, or use"
        raise UserError(
            f"{path} belongs to a run with a different config: {key} was {old!r} and is now "
            f"{new!r}; {remedy} a different --workdir, or the previous value."
        )


def check_same_data(fingerprints: Mapping[str, str], workdir: str) -> None:
    """Check that a run resumes on the data on which it started; write `data.json` at its start.

    Args:
        fingerprints: description of each part of the data that contains a digest; empty if the
            data are generated.
        workdir: run directory.

    Raises:
        UserError: if the data differ; the message names the first part that differs.
    """
    if not fingerprints:
        return
    if not (path := Path(workdir) / DATA).exists():
        if hosts.is_primary():
            write_json(path, dict(fingerprints))
        return
    theirs = read_json(path)
    for name in [*fingerprints, *(name for name in theirs if name not in fingerprints)]:
        old, new = theirs.get(name, "absent"), fingerprints.get(name, "absent")
        if old != new:
            raise UserError(
                f"The data of the run in {workdir} have changed since it started: {name} was {old} "
                f"and is now {new}; restore the data to resume, or use a different --workdir."
            )


def _is_less(old: Any, new: Any) -> bool:
    """Compare two values of a config; a value that is not an integer is not less."""
    return isinstance(old, int) and isinstance(new, int) and old < new


def flat_values(config: Any) -> dict[str, Any]:
    """Return the values of a config as in `config.json`, by flat key: 'train.steps'."""
    return flatten(json.loads(config.to_json_best_effort()))


def flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    """Flatten nested keys: {'train': {'steps': 3}} -> {'train.steps': 3}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def read_summary(workdir: str) -> dict | None:
    """Read the summary of a finished run; returns None if the run is not finished.

    Raises:
        UserError: if the file is not a summary.
    """
    path = Path(workdir) / SUMMARY
    if not path.exists():
        return None
    summary = read_json(path)
    kinds = {"steps": int | float, "seconds": int | float, "metrics": dict, "paper": dict}
    if not all(isinstance(summary.get(name), kind) for name, kind in kinds.items()):
        raise UserError(f"{path} is not the summary of a run: remove it and run again.")
    return summary


def write_summary(
    workdir: str, config: Any, metrics: dict[str, float], steps: int, seconds: float
) -> dict:
    """Write `summary.json`, the source of the result tables, and return its contents."""
    summary = {
        "config": config.name,
        "metrics": metrics,
        "paper": dict(config.paper),
        "steps": steps,
        "seconds": round(seconds, 1),
        "seed": config.seed,
        "device": device(),
        "commit": commit(),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
    }
    if hosts.is_primary():
        write_json(Path(workdir) / SUMMARY, summary)
    return summary


def read_json(path: Path) -> dict[str, Any]:
    """Read a non-empty JSON object from a file.

    Raises:
        UserError: if the file cannot be read, or does not contain such an object.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError:
        value = None
    if not isinstance(value, dict) or not value:
        raise UserError(f"{path} is corrupted: restore it or remove it.")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a file atomically."""
    with atomic_write(path) as file:
        file.write(f"{json.dumps(value, indent=2)}\n".encode())


def device() -> str:
    """Describe the hardware: '8 x TPU v5e', or processor name and available cores.

    The description starts with '2 hosts, ' if the run has several hosts.
    """
    several = f"{jax.process_count()} hosts, " if jax.process_count() > 1 else ""
    kind = jax.devices()[0].device_kind
    if kind != "cpu":
        return f"{several}{jax.device_count()} x {kind}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cores = mesh.available_cpus()
    name = names[0] if names else platform.machine()
    return f"{several}{name}, {cores} core{'s' * (cores != 1)}"


def commit() -> str:
    """Return the git commit of this code, with '-dirty' if it has changes, or 'unknown'."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
