"""Checkpoints: asynchronous saving, checksums verified on restore, parameter averaging.

Each checkpoint contains the state (parameters, optimizer, step) and a small JSON record: the step,
which is also the position in the training data, the root PRNG key, the elapsed seconds and a
checksum of every array. The checksums are necessary because TensorStore verifies its index but not
the array data: without them, a flipped bit would be restored as a weight.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from training import hosts, metric_writer
from training.errors import (
    UserError,
    did_you_mean,
    first_line,
    is_disk_full,
    is_inaccessible,
    os_error_code,
)
from training.orbax_messages import silence_corruption, silence_threads
from training.state import checksums

DIRECTORY = "checkpoints"


class Restored(NamedTuple):
    """Restored checkpoint, and a message that names skipped or averaged checkpoints, or ''."""

    state: Any
    record: dict
    message: str = ""


class Checkpoints:
    """Checkpoints of a run.

    Args:
        workdir: run directory.
        steps: number of steps of the run.
        checkpoint_every: steps between regular checkpoints; the last step has one as well. The
            checkpoint of an interrupted run, saved at any other step, is used to resume but not to
            average.
        keep: number of latest regular checkpoints to keep.
        average: number of latest regular checkpoints that `average` includes.
        best: metric ('dev/bleu') whose best checkpoint is kept as well, or ''.
        best_mode: 'max' or 'min'.

    Raises:
        UserError: if `keep` is less than `average`, `best_mode` is unknown, or the checkpoint
            directory is a file.
    """

    def __init__(
        self,
        workdir: str,
        *,
        steps: int,
        checkpoint_every: int,
        keep: int,
        average: int,
        best: str,
        best_mode: str,
    ):
        check_options(keep=keep, average=average, best_mode=best_mode)
        self._directory = epath.Path(workdir).resolve() / DIRECTORY
        if self._directory.exists() and not self._directory.is_dir():
            raise UserError(f"{self._directory} must be a directory but is a file: remove it.")
        self._steps, self._every, self._keep, self._average = steps, checkpoint_every, keep, average
        self._best, self._sign = best, 1 if best_mode == "max" else -1
        lines = metric_writer.read(workdir)
        self._scores = {x["step"]: x[best] for x in lines if np.isfinite(x.get(best, np.nan))}
        self._evaluated = any(name.startswith("dev/") for line in lines for name in line)
        self._incomplete = _incomplete(self._directory)
        self._verified = False  # whether a checkpoint of this process has been read back
        self._silenced = contextlib.ExitStack()  # messages of the threads that write
        self._manager = ocp.CheckpointManager(
            self._directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=self,
                save_root_metadata=False,
            ),
            item_names=("state", "record"),
        )

    @classmethod
    def from_config(cls, workdir: str, train: Any) -> "Checkpoints":
        """Open the checkpoints of a run, given the `train` section of its config."""
        names = ("steps", "checkpoint_every", "keep", "average", "best", "best_mode")
        return cls(workdir, **{name: train[name] for name in names})

    @classmethod
    def open_existing(
        cls, workdir: str, train: Any
    ) -> contextlib.AbstractContextManager["Checkpoints | None"]:
        """Open the checkpoints of a run, or return a context of None if it has no directory."""
        if not (epath.Path(workdir) / DIRECTORY).is_dir():
            return contextlib.nullcontext()
        return contextlib.closing(cls.from_config(workdir, train))

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints in increasing order."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: Any, key: jax.Array, seconds: float) -> None:
        """Start saving, and return once the buffers of the state may be donated.

        Does nothing if the step has a checkpoint. Waits for the first checkpoint of a process and
        reads its metadata back, because storage can lose files without an error.

        Args:
            step: number of finished steps.
            state: training state.
            key: root PRNG key of the run.
            seconds: elapsed time of the run.

        Raises:
            UserError: if this checkpoint cannot be read back, or if this or an earlier checkpoint
                cannot be written.
        """
        if step in self._manager.all_steps():
            return
        record = {
            "step": step,
            "key": np.asarray(jax.random.key_data(key)).tolist(),
            "seconds": seconds,
            "checksums": np.asarray(hosts.all_gather(checksums(state))).tolist(),
        }
        if not self._verified:
            self._silenced.enter_context(silence_threads())
        with self._report_write_errors():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)
                ),
            )
        if not self._verified:
            self.wait()
            self._verify(step, state)
            self._verified = True

    def _verify(self, step: int, state: Any) -> None:
        """Check that a checkpoint contains its record and every array, without reading the arrays.

        Raises:
            UserError: if the checkpoint cannot be read or lacks an array.
        """
        try:
            found = jax.tree.leaves(self._manager.item_metadata(step).state)
            record = ocp.args.Composite(record=ocp.args.JsonRestore())
            self._manager.restore(step, args=record)
            if lost := len(jax.tree.leaves(state)) - len(found):
                raise ValueError(f"{lost} arrays are missing")
        except Exception as error:  # as for corrupted checkpoints, of many types
            raise UserError(
                f"Checkpoint {step} was written to {self._directory} but cannot be read back "
                f"({first_line(error)}): use a --workdir on another file system, and without "
                "special characters in its path."
            ) from error

    def record_metrics(self, step: int, metrics: dict[str, float]) -> None:
        """Record the metrics of an evaluation, which determine the best checkpoint.

        Raises:
            UserError: if `best` is not one of the metrics.
        """
        if self._best and self._best not in metrics:
            raise UserError(
                f"train.best='{self._best}' is not a metric of this task; choose from "
                f"{', '.join(metrics)}." + did_you_mean(self._best, metrics)
            )
        if self._best and np.isfinite(metrics[self._best]):
            self._scores[step] = metrics[self._best]

    def restore(self, abstract: Any, which: str = "latest") -> Restored | None:
        """Restore the selected checkpoint, or the next one in order if it is corrupted.

        Deletes nothing; see `delete_after`.

        Args:
            abstract: shapes, dtypes and shardings of the state, on any mesh.
            which: 'latest', 'best' (falls back to the latest if none was evaluated) or 'average'
                (the latest state with averaged parameters, see `average`).

        Returns:
            The restored checkpoint, or None if there are no checkpoints.

        Raises:
            UserError: if all checkpoints are corrupted, or one cannot be read.
        """
        order = self.steps()[::-1]
        note = ""
        if which == "best":
            order.sort(key=self._rank)
            if self._evaluated and self._best and not self._scores.keys() & set(order):
                note = f"No checkpoint has been evaluated by {self._best}; using the latest."
        corrupted: dict[int, str] = {}
        for step in order:
            try:
                state, record = self._read(step, abstract)
            except Exception as error:  # noqa: BLE001 - corruption raises errors of many types
                corrupted[step] = self._corruption(step, error)
                continue
            message = f"{note} {self._skipped_message(step, corrupted)}".strip()
            if which == "average":
                params, averaged = self.average(abstract)
                state, message = state._replace(params=params), f"{message} {averaged}".strip()
            return Restored(state, record, message)
        if corrupted:
            raise self._all_corrupted("checkpoints", corrupted)
        return None

    def average(self, abstract: Any) -> tuple[Any, str]:
        """Average the parameters of the latest regular checkpoints, read one at a time.

        Before the first regular checkpoint, the parameters are those of the latest checkpoint.

        Returns:
            The parameters, and a message that names the averaged checkpoints.

        Raises:
            UserError: if all of these checkpoints are corrupted, or one cannot be read.
        """
        total, used, corrupted = None, [], {}
        steps = self.steps()
        for step in self._regular(steps)[::-1] or steps[-1:]:
            try:
                params = self._read(step, abstract)[0].params
            except Exception as error:  # noqa: BLE001 - as in `restore`
                corrupted[step] = self._corruption(step, error)
                continue
            wide = jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), params)
            total = wide if total is None else jax.tree.map(jnp.add, total, wide)
            used.append(step)
            if len(used) == self._average:
                break
        if not used:
            raise self._all_corrupted("checkpoints to average", corrupted)
        mean = jax.tree.map(lambda t, x: (t / len(used)).astype(x.dtype), total, abstract.params)
        names = ", ".join(map(str, sorted(used)))
        skipped = (f" Skipped checkpoint {x}: corrupted ({why})." for x, why in corrupted.items())
        return mean, f"Parameters are averaged over checkpoints {names}." + "".join(skipped)

    def delete_after(self, step: int) -> None:
        """Delete corrupted and incomplete checkpoints after `step`, which the run will save again.

        Must be called only by the training process, because another process would delete the
        checkpoint that is being written.
        """
        for later in self.steps():
            if later > step:
                self._manager.delete(later)
        if hosts.is_primary():
            for path in _incomplete(self._directory).values():
                path.rmtree()

    def wait(self) -> None:
        """Wait until all checkpoints are written."""
        with self._report_write_errors():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait until all checkpoints are written, and stop the background threads."""
        with self._report_write_errors():
            self._manager.close()
        self._silenced.close()

    @contextlib.contextmanager
    def _report_write_errors(self) -> Iterator[None]:
        """Convert errors of the operating system, such as a full disk, into a `UserError`."""
        try:
            yield
        except Exception as error:
            self._silenced.pop_all()  # the threads print messages after the error
            full, code = is_disk_full(error), os_error_code(error)
            if not full and code is None:
                raise
            reason = first_line(error) if code is None else os.strerror(code)
            fix = "free some disk space" if full else "restore access to it"
            raise UserError(
                f"Cannot write a checkpoint to {self._directory} ({reason}): {fix} and run the "
                "same command again to resume."
            ) from error

    def _corruption(self, step: int, error: Exception) -> str:
        """Describe the corruption of a checkpoint; raise a UserError if it may be intact."""
        if is_inaccessible(error):
            raise UserError(
                f"Cannot read checkpoint {step} in {self._directory} ({first_line(error)}): "
                "restore access to its files and run the same command again."
            ) from error
        return first_line(error)

    def _all_corrupted(self, which: str, corrupted: dict[int, str]) -> UserError:
        step, reason = next(iter(corrupted.items()))
        return UserError(
            f"All {which} in {self._directory} are corrupted (step {step}: {reason}); use a "
            "different --workdir to start again."
        )

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Preservation policy of orbax: keep the latest, the latest regular ones and the best."""
        del context
        steps = [info.step for info in checkpoints]
        kept = {*steps[-1:], *self._regular(steps)[-self._keep :]}
        if evaluated := [step for step in steps if step in self._scores]:
            kept.add(min(evaluated, key=self._rank))
        return [step in kept for step in steps]

    def _rank(self, step: int) -> float:
        """Sort key: the best checkpoint first, checkpoints that were not evaluated last."""
        return -self._sign * self._scores[step] if step in self._scores else np.inf

    def _regular(self, steps: Sequence[int]) -> list[int]:
        """Return the steps at the regular interval and the last step of the run."""
        return [step for step in steps if step % self._every == 0 or step == self._steps]

    def _read(self, step: int, abstract: Any) -> tuple[Any, dict]:
        """Read and verify one checkpoint.

        Raises:
            Exception: of any type if the checkpoint is corrupted.
        """
        with silence_corruption():
            items = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract), record=ocp.args.JsonRestore()
                ),
            )
        actual = np.asarray(hosts.all_gather(checksums(items.state))).tolist()
        if items.record["step"] != step or items.record["checksums"] != actual:
            raise ValueError("its arrays do not match their checksums")
        return items.state, items.record

    def _skipped_message(self, step: int, corrupted: dict[int, str]) -> str:
        """Name the checkpoints that were skipped in favor of `step`."""
        skipped = [f"checkpoint {bad} is corrupted ({why})" for bad, why in corrupted.items()]
        skipped += [f"checkpoint {bad} is incomplete" for bad in self._incomplete if bad > step]
        message = f"{', '.join(skipped)}; using checkpoint {step} instead." if skipped else ""
        return message[:1].upper() + message[1:]


def check_options(*, keep: int, average: int, best_mode: str) -> None:
    """Check the options of `Checkpoints`, for a new run before its data are prepared.

    Raises:
        UserError: if `keep` is less than `average`, or `best_mode` is unknown.
    """
    if keep < average:
        raise UserError(
            f"train.keep must be at least {average} for train.average={average}, not {keep}."
        )
    if best_mode not in ("max", "min"):
        raise UserError(f"train.best_mode must be 'max' or 'min', not '{best_mode}'.")


def _incomplete(directory: epath.Path) -> dict[int, epath.Path]:
    """Temporary directories of checkpoints whose saving was interrupted, by step."""
    names = {path.name: path for path in directory.iterdir()} if directory.exists() else {}
    steps = {name.split(".orbax-checkpoint-tmp")[0]: name for name in names if "-tmp" in name}
    return {int(step): names[name] for step, name in sorted(steps.items()) if step.isdigit()}
