"""Training loop, independent of the task: it uses only the `tasks.base.Task` protocol.

While the device runs step n, the host transfers the batch of step n + 1 and reads the metrics of
step n - 1, so neither waits for the other.
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
from training.console import Console, format_bytes, format_duration
from training.errors import Interrupted, UserError
from training.metric_writer import MetricWriter, learning_curve
from training.step import init_state, jit_train_step, trace_train_step


def fit(task: Any, config: Any, workdir: str) -> dict:
    """Train a task, or resume its training, and evaluate it.

    Args:
        task: see `tasks.base.Task`.
        config: config of the run; the loop reads `name`, `seed`, `paper`, `train` and `mesh`.
        workdir: run directory; the state of an interrupted run is restored exactly.

    Returns:
        The contents of `summary.json`.

    Raises:
        UserError: if the run directory belongs to a different config, the config is invalid, or
            the loss is not finite.
        Interrupted: after a stop signal, once the state is saved.
    """
    run.open_workdir(config, workdir)
    state = jax.eval_shape(task.init, jax.random.key(config.seed))
    shape = mesh.resolve_mesh_shape(
        dict(config.mesh), state, jax.device_count(), mesh.memory_per_device()
    )
    device_mesh = mesh.make_mesh(**shape)
    console = Console(config.train.steps, task.unit, quiet=not hosts.is_primary())
    with contextlib.closing(Checkpoints.from_config(workdir, config.train)) as checkpoints:
        summary = run.read_summary(workdir)
        if summary and config.train.steps <= summary["steps"] in checkpoints.steps():
            console.print(f"The run in {workdir} is already finished.")
            console.table(summary["metrics"], summary["paper"])
            return summary
        trainer = Trainer(task, config, workdir, device_mesh, console, checkpoints)
        with contextlib.closing(trainer.writer):
            with console.progress(trainer.step, flops.peak()), hosts.stop_signal() as stop:
                trainer.train(stop)
            return trainer.finish()


@runtime_checkable
class ChecksDivergence(Protocol):
    """Task that detects further signs of divergence than a non-finite loss."""

    def check_divergence(self, metrics: dict[str, Any]) -> str:
        """Return the reason to stop the run, given the metrics of a step, or ''."""
        ...


class InFlightMetrics(NamedTuple):
    """Metrics of a step that the device may still be computing."""

    step: int
    metrics: dict[str, jax.Array]
    flops: float


class Trainer:
    """Training state of a run and the operations of the loop.

    Args:
        task: see `tasks.base.Task`.
        config: config of the run.
        workdir: run directory.
        device_mesh: mesh of all devices.
        console: terminal output.
        checkpoints: checkpoints of the run; the latest is restored.
    """

    def __init__(self, task, config, workdir, device_mesh, console, checkpoints):
        self.task, self.config, self.workdir = task, config, workdir
        self.mesh, self.console, self.checkpoints = device_mesh, console, checkpoints
        self.compiled = {}
        self.start = time.perf_counter()
        init_key, key = jax.random.split(jax.random.key(config.seed))
        abstract = mesh.abstract_state(jax.eval_shape(task.init, init_key), device_mesh)
        restored = checkpoints.restore(abstract)
        if restored:
            self.step, self.state = restored.record["step"], restored.state
            key = jax.random.wrap_key_data(jnp.asarray(restored.record["key"], jnp.uint32))
            self.start -= restored.record["seconds"]
        else:
            self.step = 0
            self.state = init_state(task, abstract, init_key)
        checkpoints.delete_after(self.step)
        self.abstract, self.key = abstract, mesh.replicate(key, device_mesh)
        self.writer = MetricWriter(workdir, self.step, write_files=hosts.is_primary())
        self.train_step = jit_train_step(task, abstract, device_mesh)
        self._print_header(restored)

    def train(self, stop: Callable[[int], int]) -> None:
        """Run the remaining steps.

        Args:
            stop: function of the step that returns the number of a received stop signal, or 0.

        Raises:
            UserError: if the run diverges.
            Interrupted: after a stop signal, once the state is saved.
        """
        options, last = self.config.train, self.config.train.steps
        if self.step and self.step % options.eval_every == 0:
            self.evaluate_dev()  # in case the process ended between saving and evaluating
        batches = self.task.batches("train", self.step) if self.step < last else iter(())
        batch = self.next_batch(batches) if self.step < last else None
        in_flight = None
        while self.step < last:
            train_step, step_flops = self.compile(batch)
            self.state, metrics = train_step(self.state, batch, self.key, np.int32(self.step))
            self.step += 1
            if self.step < last:
                batch = self.next_batch(batches)
            if in_flight:
                self.read(in_flight)
            in_flight = InFlightMetrics(self.step, metrics, step_flops)
            evaluating = self.step % options.eval_every == 0
            saving = self.step % options.checkpoint_every == 0 or self.step == last
            signal = stop(self.step)
            if evaluating or saving or signal:
                self.read(in_flight)  # before saving, so that no diverged state is saved
                in_flight = None
                self.checkpoints.save(self.step, self.state, self.key, self.seconds())
            if evaluating:
                self.evaluate_dev()
            if signal and self.step < last:
                raise Interrupted(
                    f"Stopped at step {self.step} of {last} and saved a checkpoint; run the same "
                    "command again to resume.",
                    signal,
                )

    def next_batch(self, batches: Iterator) -> Any:
        """Transfer the next batch to the devices."""
        return mesh.shard_batch(next(batches), self.mesh)

    def compile(self, batch: Any) -> tuple[Any, float]:
        """Return the training step compiled for a batch of this shape, and its FLOPs."""
        shape = tuple((x.shape, x.dtype) for x in jax.tree.leaves(batch))
        if shape not in self.compiled:
            jax.block_until_ready(self.state)  # so that the pause contains no training time
            with self.console.pause_timer("compiling"):
                traced = trace_train_step(self.train_step, self.state, batch, self.key, self.mesh)
                self.compiled[shape] = traced.lower().compile(), flops.count(traced.jaxpr)
        return self.compiled[shape]

    def read(self, in_flight: InFlightMetrics) -> None:
        """Wait for the metrics of a step, check them, and log them if the step is a logging step.

        Raises:
            UserError: if the run diverged.
        """
        step, metrics = in_flight.step, jax.device_get(in_flight.metrics)
        if reason := self.check_divergence(step, metrics):
            steps = self.checkpoints.steps()
            saved = (
                f"the last checkpoint is at step {steps[-1]}" if steps else "no checkpoint exists"
            )
            raise UserError(f"{reason}; {saved}.")
        self.console.advance(step, float(metrics["items"]), in_flight.flops)
        if step % self.config.train.log_every == 0 or step == self.config.train.steps:
            throughput = self.console.report(step, float(metrics["loss"]))
            values = {name: float(value) for name, value in metrics.items()}
            self.writer.write(step, self.seconds(), values | throughput)

    def check_divergence(self, step: int, metrics: dict[str, Any]) -> str:
        """Return the reason to stop the run at this step, or ''."""
        for name in ("loss", "grad_norm"):
            if name in metrics and not math.isfinite(metrics[name]):
                return (
                    f"The {name} is {metrics[name]} at step {step} (batch {step - 1}): lower the "
                    "learning rate or inspect that batch"
                )
        if isinstance(self.task, ChecksDivergence):
            reason = self.task.check_divergence(metrics)
            return f"At step {step}: {reason}" if reason else ""
        return ""

    def evaluate_dev(self) -> None:
        """Evaluate the dev split, unless an earlier process has evaluated it at this step."""
        if not self.writer.metrics_at(self.step, "dev/"):
            with self.console.pause_timer("evaluating"):
                metrics = self.evaluate(self.state, "dev")
            values = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            self.console.print(f"step {self.step}/{self.config.train.steps} · {values}")
        self.checkpoints.record_metrics(self.step, self.writer.metrics_at(self.step, "dev/"))

    def evaluate(self, state: Any, split: str) -> dict[str, float]:
        """Compute and log the metrics of a split, named 'split/metric'."""
        values = self.task.evaluate(hosts.all_gather(state), split)
        metrics = {f"{split}/{name}": float(value) for name, value in values.items()}
        self.writer.write(self.step, self.seconds(), metrics)
        return metrics

    def finish(self) -> dict:
        """Average parameters, evaluate, write figures and `summary.json`; return the summary."""
        self.checkpoints.wait()
        state, metrics = self.state, self.writer.metrics_at(self.step, "dev/")
        if self.config.train.average > 1:
            params, message = self.checkpoints.average(self.abstract)
            state = state._replace(params=params)
            self.console.print(message)
        for split in self.task.splits:
            # An earlier process may have evaluated the split.
            known = self.writer.metrics_at(self.step, f"{split}/")
            metrics |= known or self.evaluate(state, split)
        state = hosts.all_gather(state)
        self.write_figures(state)
        summary = run.write_summary(self.workdir, self.config, metrics, self.step, self.seconds())
        self.console.table(summary["metrics"], summary["paper"])
        if samples := self.task.samples(state):
            self.console.print(f"\n{samples}")
        self.console.print(
            f"\nFinished in {format_duration(self.seconds())}. Results are in {self.workdir}."
        )
        hosts.barrier()  # the other hosts wait until the first has written everything
        return summary

    def write_figures(self, state: Any) -> None:
        """Write the learning curve and the task's figures; an error does not end the run."""
        try:
            figures = {"learning_curve": learning_curve(self.writer.lines)}
            figures |= self.task.figures(state)
            for name, figure in figures.items():
                self.writer.write_figure(name, figure, self.step)
        except Exception as error:  # noqa: BLE001 - plotting code raises errors of many types
            self.console.print(f"Cannot create the figures: {type(error).__name__}: {error}.")

    def seconds(self) -> float:
        """Return the elapsed time of the run, including its earlier processes."""
        return time.perf_counter() - self.start

    def _print_header(self, restored: Any) -> None:
        """Print the config, data, size and devices of the run."""
        count = sum(x.size for x in jax.tree.leaves(self.abstract.params))
        params, state = map(mesh.bytes_per_device, (self.abstract.params, self.abstract))
        shape = " x ".join(f"{name} {size}" for name, size in self.mesh.shape.items())
        resuming = f", resuming from {self.step:,}" if restored else ""
        rows = {
            "config": f"{self.config.name} (task {self.config.task})",
            **self.task.describe(),
            "parameters": f"{count:,} ({format_bytes(params)} per device, {format_bytes(state)} "
            "with optimizer state)",
            "device": f"{run.device()}; mesh {shape}",
            "steps": f"{self.config.train.steps:,}{resuming}",
            "workdir": self.workdir,
        }
        self.console.header(rows)
        if restored and restored.message:
            self.console.print(restored.message)
