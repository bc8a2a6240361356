"""A minimal task for tests: regression of a sine by an MLP, with data that depends on the step.

The module is also a task outside of `tasks` (`config.task = 'tests.toy'`) and a config file.
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
        # One call for both matrices, because random generators dominate the compile time.
        w1, w2 = jnp.split(jax.random.uniform(key, (12, width), minval=-0.5, maxval=0.5), [4])
        self.w1 = nnx.Param(w1, axes=(None, "mlp"))
        self.b1 = nnx.Param(jnp.zeros(width), axes=("mlp",))
        self.w2 = nnx.Param(w2.T, axes=("mlp", "embed"))
        self.b2 = nnx.Param(jnp.zeros(8), axes=("embed",))

    def __call__(self, x):
        return jnp.tanh(x @ self.w1 + self.b1) @ self.w2 + self.b2


class Toy(Supervised):
    """Regression with weighted examples.

    `config.data` can cause a delay per batch (`sleep`), a batch of NaN (`nan_step`) and an error in
    `figures` (`fail_figures`).
    """

    unit = "examples"
    splits = ("test",)

    def __init__(self, config):
        super().__init__(optimizer.build(**config.optimizer), config.train.accumulate)
        self.config = config
        self.width = config.model.width
        self.graphdef = nnx.graphdef(nnx.eval_shape(lambda: MLP(self.width, jax.random.key(0))))

    def init_params(self, key):
        return nnx.state(MLP(self.width, key))

    def loss(self, params, batch, key):
        error = nnx.merge(self.graphdef, params)(batch["x"]) - batch["y"]
        if self.config.data.noise:  # makes the loss depend on the key
            error += self.config.data.noise * jax.random.uniform(key, error.shape)
        squares = jnp.sum(batch["w"] * jnp.sum(error**2, -1))
        return squares, jnp.sum(batch["w"]), {"abs": jnp.sum(batch["w"] * jnp.abs(error).sum(-1))}

    def batch(self, seed):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(self.config.data.batch, 4)).astype(np.float32)
        y = np.sin(x.sum(-1, keepdims=True) + np.arange(8)).astype(np.float32)
        return {"x": x, "y": y, "w": rng.integers(1, 4, len(x)).astype(np.float32)}

    def batches(self, split, start_step):
        step = start_step
        while True:
            batch = self.batch(step)
            if step == self.config.data.nan_step:
                batch["x"] = batch["x"] * np.nan
            time.sleep(self.config.data.sleep)
            yield batch
            step += 1

    def evaluate(self, state, split):
        batch = self.batch(10**6)
        total, weight, _ = self.loss(state.params, batch, jax.random.key(0))
        return {"error": float(total / weight)}

    def figures(self, state):
        if self.config.data.fail_figures:
            raise ValueError("no figure")
        figure = Figure()
        figure.subplots().imshow(np.asarray(state.params["w1"]))
        return {"weights": figure}

    def samples(self, state):
        return "a sample of the toy task"


def build(config, workdir):
    del workdir
    return Toy(config)


def get_config(variant=""):
    if variant not in ("", "smoke"):
        raise ValueError(f"there is no variant {variant!r}")
    config = ConfigDict()
    config.name = "toy"
    config.task = "tests.toy"
    config.seed = 0
    config.paper = {"test/error": 0.5}
    config.data = {
        "batch": 16,
        "noise": 0.1,
        "nan_step": -1,
        "sleep": 0.0,
        "fail_figures": False,
    }
    config.model = {"width": 32}
    config.optimizer = {
        "method": "adam",
        "schedule": "inverse_sqrt",
        "learning_rate": 1e-2,
        "warmup_steps": 10,
        "b1": 0.9,
        "b2": 0.98,
        "eps": 1e-9,
        "clip": 1.0,
    }
    config.train = {
        "steps": 40,
        "log_every": 5,
        "eval_every": 20,
        "checkpoint_every": 10,
        "keep": 3,
        "average": 2,
        "accumulate": 1,
        "best": "dev/error",
        "best_mode": "min",
        "init_from": "none",
    }
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 1
    return config
