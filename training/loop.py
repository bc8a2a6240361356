"""The only training loop. It knows the `Task` protocol and no task.

While the device computes step n, the host places the batch of step n + 1 and reads the metrics of
step n - 1, so that neither waits for the other.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from training import flops, hosts, mesh, run
from training.checkpoints import Checkpoints
from training.console import Console, binary, duration
from training.errors import Interrupted, UserError
from training.metric_writer import MetricWriter, learning_curve
from training.step import init_state, make_update, trace


def fit(task: Any, config: Any, workdir: str) -> dict:
    """Trains, or goes on training, and evaluates.

    Args:
        task: see `tasks.base.Task`.
        config: the run's config; read here are `name`, `seed`, `paper`, `train` and `mesh`.
        workdir: the run's folder; one that an interrupted run left is resumed exactly.

    Returns:
        What stands in `summary.json`.

    Raises:
        UserError: if the folder or the config does not fit, or the loss is no longer finite.
        Interrupted: after a signal to stop, when everything is saved.
    """
    run.open_workdir(config, workdir)
    state = jax.eval_shape(task.init, jax.random.key(config.seed))
    sizes = mesh.resolve_mesh_shape(dict(config.mesh), state, jax.device_count(), mesh.memory())
    devices = mesh.make_mesh(**sizes)
    console = Console(config.train.steps, task.unit, quiet=not hosts.is_primary())
    with contextlib.closing(Checkpoints.of(workdir, config.train)) as checkpoints:
        summary = run.read_summary(workdir)
        if summary and config.train.steps <= summary["steps"] in checkpoints.steps():
            console.say(f"This run is finished; its results are in {workdir}.")
            console.table(summary["metrics"], summary["paper"])
            return summary
        trainer = Trainer(task, config, workdir, devices, console, checkpoints)
        with contextlib.closing(trainer.writer):
            with console.training(trainer.step, flops.peak()), hosts.stop_signal() as stop:
                trainer.train(stop)
            return trainer.finish()


@runtime_checkable
class ChecksDivergence(Protocol):
    """A task that sees in its metrics more than that they are finite."""

    def fault(self, metrics: dict[str, Any]) -> str:
        """Why a run with these metrics of a step is not worth going on; '' if it is."""
        ...


class InFlightMetrics(NamedTuple):
    """Metrics of a step that the device may still be computing."""

    step: int
    metrics: dict[str, jax.Array]
    flops: float


class Trainer:
    """The state of a run and what happens to it."""

    def __init__(self, task, config, workdir, devices, console, checkpoints):
        self.task, self.config, self.workdir = task, config, workdir
        self.mesh, self.console, self.checkpoints = devices, console, checkpoints
        self.compiled = {}
        self.start = time.perf_counter()
        first_key, key = jax.random.split(jax.random.key(config.seed))
        abstract = mesh.abstract(jax.eval_shape(task.init, first_key), devices)
        restored = checkpoints.restore(abstract)
        if restored:
            self.step, self.state = restored.record["step"], restored.state
            key = jax.random.wrap_key_data(jnp.asarray(restored.record["key"], jnp.uint32))
            self.start -= restored.record["seconds"]
        else:
            self.step = 0
            self.state = init_state(task, abstract, first_key)
        checkpoints.clear_after(self.step)
        self.abstract, self.key = abstract, mesh.replicate(key, devices)
        self.writer = MetricWriter(workdir, self.step, writes=hosts.is_primary())
        self.update = make_update(task, abstract, devices)
        self._introduce(restored)

    def train(self, stop: Callable[[int], int]) -> None:
        """Runs until the last step, or until `stop` names a signal for one."""
        every, last = self.config.train, self.config.train.steps
        if self.step and self.step % every.eval_every == 0:
            self.evaluate_dev()  # the process may have ended between saving and evaluating
        batches = self.task.batches("train", self.step) if self.step < last else iter(())
        batch = self.place(batches) if self.step < last else None
        pending = None
        while self.step < last:
            step_fn, cost = self.compile(batch)
            self.state, metrics = step_fn(self.state, batch, self.key, np.int32(self.step))
            self.step += 1
            if self.step < last:
                batch = self.place(batches)
            if pending:
                self.read(pending)
            pending = InFlightMetrics(self.step, metrics, cost)
            evaluating = self.step % every.eval_every == 0
            saving = self.step % every.checkpoint_every == 0 or self.step == last
            stopping = stop(self.step)
            if evaluating or saving or stopping:
                self.read(pending)  # first: a state is saved only if its loss was finite
                pending = None
                self.checkpoints.save(self.step, self.state, self.key, self.seconds())
            if evaluating:
                self.evaluate_dev()
            if stopping and self.step < last:
                raise Interrupted(
                    f"Stopped at step {self.step} of {last}, saved; the same command resumes.",
                    stopping,
                )

    def place(self, batches: Iterator) -> Any:
        """The next batch, on the devices."""
        return mesh.shard_batch(next(batches), self.mesh)

    def compile(self, batch: Any) -> tuple[Any, float]:
        """The step compiled for a batch of this shape, and its FLOPs."""
        shape = tuple((x.shape, x.dtype) for x in jax.tree.leaves(batch))
        if shape not in self.compiled:
            jax.block_until_ready(self.state)  # or steps would be done in what counts as a pause
            with self.console.pause("compiling"):
                traced = trace(self.update, self.state, batch, self.key, self.mesh)
                self.compiled[shape] = traced.lower().compile(), flops.count(traced.jaxpr)
        return self.compiled[shape]

    def read(self, pending: InFlightMetrics) -> None:
        """Waits for a step's metrics; records them if due.

        Raises:
            UserError: if the loss or the gradient is not finite, or the task finds a fault.
        """
        step, metrics = pending.step, jax.device_get(pending.metrics)
        if fault := self.fault(step, metrics):
            good = self.checkpoints.steps()
            kept = f"checkpoint {good[-1]}, the last good one, is kept" if good else ""
            raise UserError(f"{fault}; {kept or 'no checkpoint was made before it'}.")
        self.console.advance(step, float(metrics["items"]), pending.flops)
        if step % self.config.train.log_every == 0 or step == self.config.train.steps:
            speed = self.console.report(step, float(metrics["loss"]))
            values = {name: float(value) for name, value in metrics.items()}
            self.writer.write(step, self.seconds(), values | speed)

    def fault(self, step: int, metrics: dict[str, Any]) -> str:
        """Why the run should stop here, or ''."""
        for name in ("loss", "grad_norm"):
            if name in metrics and not math.isfinite(metrics[name]):
                return (
                    f"The {name} is {metrics[name]} at step {step} (batch {step - 1}): lower the "
                    "learning rate or look at that batch"
                )
        if isinstance(self.task, ChecksDivergence) and (fault := self.task.fault(metrics)):
            return f"At step {step}: {fault}"
        return ""

    def evaluate_dev(self) -> None:
        """Evaluates the dev split, unless an earlier process already did at this step."""
        if not self.writer.found(self.step, "dev/"):
            with self.console.pause("evaluating"):
                metrics = self.evaluate(self.state, "dev")
            self.console.say(
                f"step {self.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in metrics.items())
            )
        self.checkpoints.score(self.step, self.writer.found(self.step, "dev/"))

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """Measures of a split as 'split/metric', recorded."""
        found = self.task.evaluate(hosts.all_gather(state), split)
        metrics = {f"{split}/{name}": float(value) for name, value in found.items()}
        self.writer.write(self.step, self.seconds(), metrics)
        return metrics

    def finish(self) -> dict:
        """Averages, evaluates, draws, and leaves `summary.json`."""
        self.checkpoints.wait()
        state, metrics = self.state, self.writer.found(self.step, "dev/")
        if self.config.train.average > 1:
            params, said = self.checkpoints.average(self.abstract)
            state = state._replace(params=params)
            self.console.say(said)
        for split in self.task.splits:
            found = self.writer.found(self.step, f"{split}/")  # by an earlier process
            metrics |= found or self.evaluate(state, split)
        state = hosts.all_gather(state)
        self.draw(state)
        summary = run.write_summary(self.workdir, self.config, metrics, self.step, self.seconds())
        self.console.table(summary["metrics"], summary["paper"])
        if samples := self.task.samples(state):
            self.console.say("\n" + samples)
        self.console.say(
            f"\nFinished in {duration(self.seconds())}; all of it is in {self.workdir}."
        )
        hosts.barrier()  # for the one that writes
        return summary

    def draw(self, state: Any) -> None:
        """Saves the pictures. One that cannot be drawn is a pity, not the end of a run."""
        try:
            figures = {"learning_curve": learning_curve(self.writer.lines)} | self.task.figures(
                state
            )
            for name, figure in figures.items():
                self.writer.figure(name, figure, self.step)
        except Exception as error:  # noqa: BLE001  whatever a picture may stumble over
            self.console.say(f"A figure could not be drawn: {type(error).__name__}: {error}.")

    def seconds(self) -> float:
        """Wall time spent on this run, earlier processes included up to their last checkpoint."""
        return time.perf_counter() - self.start

    def _introduce(self, restored: Any) -> None:
        """The first lines that a person sees."""
        count = sum(x.size for x in jax.tree.leaves(self.abstract.params))
        weights, whole = map(mesh.bytes_per_device, (self.abstract.params, self.abstract))
        sizes = " x ".join(f"{name} {size}" for name, size in self.mesh.shape.items())
        resuming = f", resuming from {self.step:,}" if restored else ""
        rows = {
            "config": f"{self.config.name} (task {self.config.task})",
            **self.task.describe(),
            "parameters": f"{count:,}; {binary(weights)} on a device, {binary(whole)} with the "
            "optimizer's",
            "device": f"{run.device()}; mesh {sizes}",
            "steps": f"{self.config.train.steps:,}{resuming}",
            "workdir": self.workdir,
        }
        self.console.header(rows)
        if restored and restored.notice:
            self.console.say(restored.notice)
