"""Checkpoints: saved while training goes on, verified when read, averaged at the end.

Each holds the whole state (parameters, optimizer, step) and a small record: the step, which is
also the position in the data, the root key, the seconds spent so far and a checksum of every
array. Checksums are ours because the storage below checks its indices, not the arrays themselves:
a flipped bit would come back as a weight.
"""

import asyncio
import contextlib
import functools
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax import lax

from training import hosts, metric_writer
from training.errors import UserError, did_you_mean, first_line, is_full

FOLDER = "checkpoints"


class Restored(NamedTuple):
    """A state, its record, and a sentence for the user if not all went smoothly."""

    state: Any
    record: dict
    notice: str = ""


class Checkpoints:
    """The checkpoints of a run.

    Args:
        workdir: the run's folder.
        checkpoint_every: the regular interval in steps. A checkpoint between, made when a signal
            stops a run, serves only to go on from and takes no part in the average.
        keep: how many of the newest regular ones stay.
        average: over how many of them `average` goes.
        best: the metric ('dev/bleu') whose best checkpoint stays as well; '' for none.
        best_mode: 'max' or 'min'.

    Raises:
        UserError: if fewer are kept than averaged, or `best_mode` is neither.
    """

    def __init__(
        self,
        workdir: str,
        *,
        checkpoint_every: int,
        keep: int,
        average: int,
        best: str,
        best_mode: str,
    ):
        if keep < max(average, 1):
            raise UserError(f"train.keep={keep} is too few for train.average={average}.")
        if best_mode not in ("max", "min"):
            raise UserError(f"train.best_mode is 'max' or 'min', not '{best_mode}'.")
        self._directory = epath.Path(workdir).resolve() / FOLDER
        if self._directory.exists() and not self._directory.is_dir():
            raise UserError(f"{self._directory} is a file, where checkpoints are to be: remove it.")
        self._every, self._keep, self._average = checkpoint_every, keep, average
        self._best, self._sign = best, 1 if best_mode == "max" else -1
        lines = [
            line for line in metric_writer.read(workdir) if np.isfinite(line.get(best, np.nan))
        ]
        self._scores = {line["step"]: line[best] for line in lines}
        self._half_written = _half_written(self._directory)
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self,
                save_root_metadata=False,
            ),
            item_names=("state", "record"),
        )

    @classmethod
    def of(cls, workdir: str, train: Any) -> "Checkpoints":
        """Those of a run, given the `train` section of its config."""
        names = ("checkpoint_every", "keep", "average", "best", "best_mode")
        return cls(workdir, **{name: train[name] for name in names})

    def steps(self) -> list[int]:
        """All steps that have a checkpoint, rising."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, key: jax.Array, seconds: float) -> None:
        """Starts to save and returns once the state may be overwritten. Saving again is no error.

        `key` is the run's root key, `seconds` the time it has taken so far.
        """
        if step in self._manager.all_steps():
            return
        record = {
            "step": step,
            "key": np.asarray(jax.random.key_data(key)).tolist(),
            "seconds": seconds,
            "checksums": np.asarray(hosts.all_gather(checksums(state))).tolist(),
        }
        with self._writing():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)
                ),
            )

    def score(self, step: int, metrics: dict[str, float]) -> None:
        """Tells what an evaluation found, for the choice of the best.

        Raises:
            UserError: if the metric that decides is not among them.
        """
        if self._best and self._best not in metrics:
            raise UserError(
                f"train.best '{self._best}' is not a metric of this task, which are "
                f"{', '.join(metrics)}." + did_you_mean(self._best, metrics)
            )
        if self._best and np.isfinite(metrics[self._best]):
            self._scores[step] = metrics[self._best]

    def restore(self, abstract: Any, which: str = "latest") -> Restored | None:
        """Reads the latest, best or average checkpoint, or an older one if that is damaged.

        Args:
            abstract: the state's shapes, dtypes and shardings; any mesh will do.
            which: 'latest', 'best' (the latest if none was evaluated) or 'average': the latest,
                with the parameters replaced by the mean of the last regular checkpoints.

        Returns:
            None if there are no checkpoints. Nothing is deleted: see `clear_after`.

        Raises:
            UserError: if none can be read.
        """
        order = self.steps()[::-1]
        if which == "best":
            order.sort(key=self._rank)
        damaged: dict[int, str] = {}
        for step in order:
            try:
                state, record = self._read(step, abstract)
            except Exception as error:  # noqa: BLE001  whatever damage does to the reader
                damaged[step] = _brief(error)
                continue
            notice = self._notice(step, damaged)
            if which == "average":
                params, said = self.average(abstract)
                state, notice = state._replace(params=params), f"{notice} {said}".strip()
            return Restored(state, record, notice)
        if damaged:
            step, damage = next(iter(damaged.items()))
            raise UserError(
                f"No checkpoint in {self._directory} can be read (step {step}: {damage}); "
                "give another --workdir to begin anew."
            )
        return None

    def average(self, abstract: Any) -> tuple[Any, str]:
        """Mean of the parameters of the last regular checkpoints, read one at a time.

        Returns:
            The parameters, and a sentence that says which checkpoints they come from.
        """
        total, used, damaged = None, [], []
        for step in self._regular(self.steps())[::-1]:
            try:
                params = self._read(step, abstract)[0].params
            except Exception as error:  # noqa: BLE001  as in `restore`
                damaged.append(f" Checkpoint {step} is left out: it is damaged ({_brief(error)}).")
                continue
            wide = jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), params)
            total = wide if total is None else jax.tree.map(jnp.add, total, wide)
            used.append(step)
            if len(used) == self._average:
                break
        mean = jax.tree.map(lambda t, x: (t / len(used)).astype(x.dtype), total, abstract.params)
        steps = ", ".join(map(str, sorted(used)))
        return mean, f"Parameters are the mean of checkpoints {steps}." + "".join(damaged)

    def clear_after(self, step: int) -> None:
        """Deletes what is damaged or half written beyond `step`, as a run will make it again.

        Only the process that trains may do this: another would delete what it is writing.
        """
        for later in self.steps():
            if later > step:
                self._manager.delete(later)
        if hosts.is_primary():
            for path in _half_written(self._directory).values():
                path.rmtree()

    def wait(self) -> None:
        """Blocks until everything asked for is on disk."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then ends the background threads."""
        with self._writing():
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Says what a user can mend of what goes wrong on the way to the disk."""
        try:
            yield
        except Exception as error:
            if not is_full(error):
                raise
            raise UserError(
                f"A checkpoint cannot be written to {self._directory} ({_brief(error)}): make "
                "room, and the same command goes on from the last whole one."
            ) from error

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Orbax asks which to keep: the newest, the newest regular ones, and the best."""
        del context
        steps = [info.step for info in checkpoints]
        kept = {*steps[-1:], *self._regular(steps)[-self._keep :]}
        if scored := [step for step in steps if step in self._scores]:
            kept.add(min(scored, key=self._rank))
        return [step in kept for step in steps]

    def _rank(self, step: int) -> float:
        """Smaller is better; those without a score come last."""
        return -self._sign * self._scores[step] if step in self._scores else np.inf

    def _regular(self, steps: Sequence[int]) -> list[int]:
        """Those at the regular interval and the last; others are left from interruptions."""
        return [step for step in steps if step % self._every == 0 or step == steps[-1]]

    def _read(self, step: int, abstract: Any) -> tuple[Any, dict]:
        """One checkpoint, or an exception if a bit of it is wrong."""
        hush()
        items = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract), record=ocp.args.JsonRestore()
            ),
        )
        found = np.asarray(hosts.all_gather(checksums(items.state))).tolist()
        if items.record["step"] != step or items.record["checksums"] != found:
            raise ValueError("its arrays do not match their checksums")
        return items.state, items.record

    def _notice(self, step: int, damaged: dict[int, str]) -> str:
        """Says what was passed over on the way to `step`."""
        notes = [f"{bad} is damaged ({damage})" for bad, damage in damaged.items()]
        notes += [f"{bad} is only half written" for bad in self._half_written if bad > step]
        return f"Checkpoint {', '.join(notes)}; using {step} instead." if notes else ""


@jax.jit
def checksums(tree: Any) -> jax.Array:
    """One uint32 per array, the same on any mesh.

    The bits of each element times an odd number made from its position, summed modulo 2^32: any
    change to a single element changes the sum, as odd numbers are invertible.
    """

    def checksum(x):
        x = x.astype(jnp.uint8) if x.dtype == jnp.bool_ else x
        bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
        position = jnp.zeros(x.shape, jnp.uint32)
        for axis, size in enumerate(x.shape):
            position = position * size + lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        return jnp.sum(bits.astype(jnp.uint32) * (2 * position + 1), dtype=jnp.uint32)

    return jnp.stack([checksum(x) for x in jax.tree.leaves(tree)])


@functools.cache
def hush() -> None:
    """Leaves it to us to say that a checkpoint is damaged; from the first reading on.

    The coroutines and threads of the reader would print what they find wrong with it as well, while
    the error is on its way to us and after that.
    """
    before = sys.unraisablehook

    def hook(error):
        late = asyncio.iscoroutine(error.object) or "Event loop is closed" in str(error.exc_value)
        if not late:
            before(error)

    sys.unraisablehook = hook
    warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)


def _half_written(directory: epath.Path) -> dict[int, epath.Path]:
    """Folders of steps whose saving a crash cut short."""
    names = {path.name: path for path in directory.iterdir()} if directory.exists() else {}
    steps = {name.split(".orbax-checkpoint-tmp")[0]: name for name in names if "-tmp" in name}
    return {int(step): names[name] for step, name in sorted(steps.items()) if step.isdigit()}


def _brief(error: Exception) -> str:
    """The first line of an error, short enough for a sentence."""
    line = first_line(error)
    return line if len(line) <= 120 else line[:117] + "..."
