"""The smallest task there is: an MLP that regresses a sine, its data a function of the step.

Also a task module for the command line (`config.task = 'tests.toy'`) and a config file.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from tasks.base import Supervised
from training import optimizer


class MLP(nnx.Module):
    def __init__(self, width, key):
        # One draw for all: generators are most of what a program this small takes to compile.
        w1, w2 = jnp.split(jax.random.uniform(key, (12, width), minval=-0.5, maxval=0.5), [4])
        self.w1 = nnx.Param(w1, axes=(None, "mlp"))
        self.b1 = nnx.Param(jnp.zeros(width), axes=("mlp",))
        self.w2 = nnx.Param(w2.T, axes=("mlp", "embed"))
        self.b2 = nnx.Param(jnp.zeros(8), axes=("embed",))

    def __call__(self, x):
        return jnp.tanh(x @ self.w1 + self.b1) @ self.w2 + self.b2


class Toy(Supervised):
    unit = "rows"
    splits = ("test",)

    def __init__(self, config):
        super().__init__(optimizer.build(**config.optimizer), config.train.accumulate)
        self.config = config
        self.width = config.model.width
        self.graph = nnx.split(nnx.eval_shape(lambda: MLP(self.width, jax.random.key(0))))[0]

    def init_params(self, key):
        return nnx.split(MLP(self.width, key))[1]

    def loss(self, params, batch, key):
        error = nnx.merge(self.graph, params)(batch["x"]) - batch["y"]
        if self.config.data.noise:  # lets a test see that keys resume too
            error += self.config.data.noise * jax.random.uniform(key, error.shape)
        squares = jnp.sum(batch["w"] * jnp.sum(error**2, -1))
        return squares, jnp.sum(batch["w"]), {"abs": jnp.sum(batch["w"] * jnp.abs(error).sum(-1))}

    def batch(self, seed):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(self.config.data.rows, 4)).astype(np.float32)
        y = np.sin(x.sum(-1, keepdims=True) + np.arange(8)).astype(np.float32)
        return {"x": x, "y": y, "w": rng.integers(1, 4, len(x)).astype(np.float32)}

    def batches(self, split, start_step):
        step = start_step
        while True:
            batch = self.batch(step)
            if step == self.config.data.poison:
                batch["x"] = batch["x"] * np.nan
            time.sleep(self.config.data.sleep)
            yield batch
            step += 1

    def evaluate(self, state, split):
        batch = self.batch(10**6)
        total, weight, _ = self.loss(state.params, batch, jax.random.key(0))
        return {"error": float(total / weight)}

    def figures(self, state):
        if self.config.data.bad_figure:
            raise ValueError("no ink")
        figure = Figure()
        figure.subplots().imshow(np.asarray(state.params["w1"]))
        return {"weights": figure}

    def samples(self, state):
        return "a sample of the toy"


def build(config, workdir):
    del workdir
    return Toy(config)


def get_config(arg=""):
    if arg not in ("", "smoke"):
        raise ValueError(f"there is no variant '{arg}'")
    c = ConfigDict()
    c.name, c.seed, c.task = "toy", 0, "tests.toy"
    c.paper = ConfigDict({"test/error": 0.5})
    c.data = ConfigDict({"rows": 16, "noise": 0.1, "poison": -1, "sleep": 0.0, "bad_figure": False})
    c.model = ConfigDict({"width": 32})
    c.optimizer = ConfigDict(
        {
            "method": "adam",
            "schedule": "inverse_sqrt",
            "peak": 1e-2,
            "warmup": 10,
            "b1": 0.9,
            "b2": 0.98,
            "eps": 1e-9,
            "clip": 1.0,
        }
    )
    c.train = ConfigDict(
        {
            "steps": 40,
            "log_every": 5,
            "eval_every": 20,
            "checkpoint_every": 10,
            "keep": 3,
            "average": 2,
            "accumulate": 1,
            "best": "dev/error",
            "best_mode": "min",
        }
    )
    c.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})
    c.cpu_devices = 1
    return c
