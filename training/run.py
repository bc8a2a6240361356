"""A run's folder: whether it may be used, what it was made by, and its summary."""

import contextlib
import errno
import fcntl
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from training import hosts, mesh
from training.errors import UserError

CONFIG, SUMMARY, LOCK = "config.json", "summary.json", ".lock"
UNMADE = {CONFIG, LOCK, "log.txt"}  # all that is in a folder before its task is made
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)  # on some file systems
# What changes no number of a run: on which devices it is, how often it speaks, which metric its
# best checkpoint is the best by, where its data lie.
MOVABLE = re.compile(
    r"mesh\..*|cpu_devices|train\.(log_every|best|best_mode)|.*\.(data_)?dir|.*\.folder"
)
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


def enable_compilation_cache() -> None:
    """Keeps what XLA compiles for the next process that needs the same."""
    cache = os.path.expanduser("~/.cache/attention_atlas/xla")
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def make_folder(path: Path) -> None:
    """Makes a folder, unless it is there.

    Raises:
        UserError: if it cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / ".writable").touch()
        (path / ".writable").unlink(missing_ok=True)  # another process may do the same
    except OSError as error:
        raise UserError(f"Cannot write to {path}: {error.strerror}.") from error


def open_workdir(config: Any, workdir: str) -> None:
    """Makes the folder ready for a run of `config`, new or resumed, and writes `config.json`.

    Raises:
        UserError: if it cannot be written, or belongs to a run of another config.
    """
    make_folder(path := Path(workdir))
    ours = json.loads(config.to_json_best_effort())
    check_same(config, workdir)
    if hosts.is_primary():
        write_json(path / CONFIG, ours)


@contextlib.contextmanager
def lock_workdir(workdir: str) -> Iterator[None]:
    """Lets no other process train in the folder meanwhile; the hosts of one run count as one.

    Raises:
        UserError: if one does, or the folder cannot be written.
    """
    if not hosts.is_primary():
        yield
        return
    make_folder(Path(workdir))
    with open(Path(workdir, LOCK), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"Another process trains in {workdir}: let it end, or give another --workdir."
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield


def read_config(workdir: str) -> ConfigDict:
    """The config that a run was made by, locked.

    Raises:
        UserError: if the folder is none of a run.
    """
    path = Path(workdir) / CONFIG
    if not path.is_file():
        raise UserError(f"{workdir} is not the folder of a run: it has no {CONFIG}.")
    return ConfigDict(_tuples(read_json(path))).lock()


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, which they were before they were written."""
    if isinstance(value, dict):
        return {key: _tuples(part) for key, part in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def check_same(config: Any, workdir: str) -> None:
    """Checks that the folder, if a run has left anything in it, is of a run of this config.

    One that stopped before that, as by a misspelt value, leaves the folder to the next.

    Raises:
        UserError: if not, with the first key on which they differ.
    """
    path = Path(workdir)
    if not (path / CONFIG).exists() or {x.name for x in path.iterdir()} <= UNMADE:
        return
    theirs = flatten(read_json(path / CONFIG))
    ours = flatten(json.loads(config.to_json_best_effort()))
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        old, new = theirs.get(key, "absent"), ours.get(key, "absent")
        if (
            key == "optimizer.steps"
            and old != new
            and ours["train.steps"] > theirs.get("train.steps", 0)
        ):
            raise UserError(
                f"The learning rate of {path} falls to zero at update {old}, so the run cannot be "
                "made longer: give another --workdir."
            )
        longer = key == "train.steps" and new > old
        moved = MOVABLE.fullmatch(key)
        if json.dumps(old) == json.dumps(new) or longer or moved:  # in JSON, as nan is not nan
            continue
        raise UserError(
            f"{path} was made by another config: {key} was {old!r} there and is {new!r} now; "
            "give another --workdir, or the value it was made with."
        )


def flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    """{'train': {'steps': 3}} -> {'train.steps': 3}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def read_summary(workdir: str) -> dict | None:
    """The summary of a finished run, or None."""
    path = Path(workdir) / SUMMARY
    return read_json(path) if path.exists() else None


def write_summary(
    workdir: str, config: Any, metrics: dict[str, float], steps: int, seconds: float
) -> dict:
    """Writes `summary.json`, the fixed form by which runs are recorded, and returns it."""
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
    """What `write_json` wrote.

    Raises:
        UserError: if somebody else did.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError:
        value = None
    if not isinstance(value, dict) or not value:
        raise UserError(f"{path} is damaged: put it back as it was, or remove it.")
    return value


def write_json(path: Path, value: Any) -> None:
    """Whole or not at all, whatever interrupts it."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(draft, path)


def device() -> str:
    """'8 x TPU v5e', or the processor's name and how many of its cores this process has.

    With '2 hosts, ' before it if there are several.
    """
    several = f"{jax.process_count()} hosts, " if jax.process_count() > 1 else ""
    kind = jax.devices()[0].device_kind
    if kind != "cpu":
        return f"{several}{jax.device_count()} x {kind}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cores = mesh.available_cpus()
    name = names[0] if names else platform.machine()
    return f"{several}{name}, {cores} core{'s' * (cores != 1)}"


def commit() -> str:
    """The commit of this code, '-dirty' if it has been changed since, 'unknown' outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
