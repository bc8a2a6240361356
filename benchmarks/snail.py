"""Training of SNAIL on bandits, compared with PyTorch.

The workload is configs/snail_bandits.py: rollouts of a batch of trials, one step at a time with
caches, then epochs of PPO on whole trials. In the PyTorch version each trial has an environment
object in Python; the model acts for the batch in eager mode and is trained eager or compiled, with
fused Adam. The throughput is actions per second, rollouts and updates included. `snail/history` is
the time of one policy step by the length of its history.
"""

import random
import statistics
import time
from functools import partial
from typing import Any

from benchmarks.workloads import (
    Benchmark,
    Measurement,
    Workload,
    beside_torch,
    make_training,
    torch_device,
)

STEPS = 1  # training steps per round
FILTERS, KEY_WIDTH, EMBEDDING = 32, 32, 32
HISTORY_LENGTHS = (64, 256, 1024)


def make_config() -> Any:
    """Return the config of both implementations."""
    from configs.snail_bandits import get_config

    return get_config()


def train_ours() -> Workload:
    """Create our training."""
    import tasks

    config = make_config()
    task = tasks.build(config, "")
    batches = [next(task.batches("train", 0))] * STEPS
    return make_training(task, batches, config.cpu_devices)


class PythonBandit:
    """Bernoulli bandit of a single trial."""

    def __init__(self, arms: int):
        self.probabilities = [random.random() for _ in range(arms)]

    def step(self, action: int) -> float:
        """Sample the reward of an arm."""
        return 1.0 if random.random() < self.probabilities[action] else 0.0


def torch_snail(inputs: int, actions: int, length: int) -> Any:
    """Create the same network in PyTorch, with a whole-sequence and a step form."""
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812 - the usual name

    levels = (length - 1).bit_length()

    class Snail(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(inputs, EMBEDDING)
            self.dilations = [2**i for _ in range(2) for i in range(levels)]
            widths = [EMBEDDING + FILTERS * i for i in range(len(self.dilations))]
            self.kernels = nn.ModuleList(nn.Linear(w, 4 * FILTERS, bias=False) for w in widths)
            self.biases = nn.ParameterList(torch.zeros(2 * FILTERS) for _ in widths)
            width = widths[-1] + FILTERS
            self.attention = nn.Linear(width, 3 * KEY_WIDTH)
            self.heads = nn.Linear(width + KEY_WIDTH, actions + 1)

        def gate_and_concat(self, x, preactivations):
            filters, gates = preactivations.chunk(2, dim=-1)
            return torch.cat([x, torch.tanh(filters) * torch.sigmoid(gates)], dim=-1)

        def forward(self, x):
            x = self.embed(x)
            layers = zip(self.kernels, self.biases, self.dilations, strict=True)
            for kernel, bias, dilation in layers:
                past, present = kernel(x).chunk(2, dim=-1)
                past = F.pad(past, (0, 0, dilation, 0))[:, : x.shape[1]]
                x = self.gate_and_concat(x, past + present + bias)
            q, k, v = self.attention(x).chunk(3, dim=-1)
            x = torch.cat([x, F.scaled_dot_product_attention(q, k, v, is_causal=True)], dim=-1)
            outputs = self.heads(x)
            return outputs[..., :-1], outputs[..., -1]

        def init_cache(self, batch):
            zeros = self.biases[0].new_zeros
            ring_buffers = [zeros(d, batch, 2 * FILTERS) for d in self.dilations]
            return ring_buffers, zeros(2, batch, length, KEY_WIDTH)

        def step(self, x, cache, t):
            ring_buffers, memory = cache
            x = self.embed(x)
            for kernel, bias, buffer in zip(self.kernels, self.biases, ring_buffers, strict=True):
                past, present = kernel(x).chunk(2, dim=-1)
                preactivations = buffer[t % len(buffer)] + present + bias
                buffer[t % len(buffer)] = past
                x = self.gate_and_concat(x, preactivations)
            q, memory[0, :, t], memory[1, :, t] = self.attention(x).chunk(3, dim=-1)
            keys, values = memory[:, :, : t + 1]
            context = F.scaled_dot_product_attention(q[:, None], keys, values)[:, 0]
            outputs = self.heads(torch.cat([x, context], dim=-1))
            return outputs[..., :-1], outputs[..., -1]

    return Snail()


def torch_rollout(model: Any, trials: int, arms: int, pulls: int, device: str) -> list[Any]:
    """Run trials; returns inputs, actions, rewards, log-probabilities and values `[B, T, ...]`."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - the usual name

    bandits = [PythonBandit(arms) for _ in range(trials)]
    cache, x = model.init_cache(trials), torch.zeros(trials, arms + 2, device=device)
    done = torch.ones(trials, 1, device=device)
    steps: list[list[Any]] = [[] for _ in range(5)]
    for t in range(pulls):
        logits, values = model.step(x, cache, t)
        log_probs = F.log_softmax(logits, dim=-1)
        actions = torch.multinomial(log_probs.exp(), 1)
        pulled = zip(bandits, actions[:, 0].tolist(), strict=True)
        rewards = torch.tensor([bandit.step(action) for bandit, action in pulled], device=device)
        arrays = x, actions[:, 0], rewards, log_probs.gather(1, actions)[:, 0], values
        for column, array in zip(steps, arrays, strict=True):
            column.append(array)
        x = torch.cat([F.one_hot(actions[:, 0], arms).float(), rewards[:, None], done], dim=-1)
    return [torch.stack(column, dim=1) for column in steps]


def torch_advantages(rewards: Any, values: Any, discount: float, gae_lambda: float) -> Any:
    """Compute advantages and value targets as `MetaRL` does."""
    import torch

    _, length = rewards.shape
    total, returns = torch.zeros_like(values[:, 0]), torch.zeros_like(values)
    for t in reversed(range(length)):
        returns[:, t] = total = rewards[:, t] + discount * total
    mean = returns.mean(0)
    scale = (returns - mean).std(correction=0) + 1e-8
    baseline = mean + scale * values
    advantages, advantage = torch.zeros_like(values), torch.zeros_like(values[:, 0])
    for t in reversed(range(length)):
        next_baseline = baseline[:, t + 1] if t + 1 < length else 0.0
        delta = rewards[:, t] + discount * next_baseline - baseline[:, t]
        advantages[:, t] = advantage = delta + discount * gae_lambda * advantage
    returns = values + advantages / scale
    return (advantages - advantages.mean(0)) / (advantages.std() + 1e-8), returns


def torch_loss(model: Any, experience: Any, options: Any) -> Any:
    """Compute the loss of PPO for inputs, actions, log-probabilities, advantages and returns."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - the usual name

    x, actions, old_log_probs, advantages, returns = experience
    logits, values = model(x)
    log_probs = F.log_softmax(logits, dim=-1)
    ratio = (log_probs.gather(2, actions[..., None])[..., 0] - old_log_probs).exp()
    clipped = ratio.clamp(1 - options.clip, 1 + options.clip)
    surrogate = torch.minimum(ratio * advantages, clipped * advantages).mean()
    value_loss = 0.5 * (values - returns).square().mean()
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
    return -surrogate + options.value_weight * value_loss - options.entropy_weight * entropy


def train_torch(compiled: bool) -> Workload:
    """Create the training in PyTorch."""
    import torch

    config = make_config()
    options, sizes = config.ppo, config.environment.sizes
    device = torch_device()
    model = torch_snail(sizes.arms + 2, sizes.arms, sizes.pulls).to(device)
    adam = torch.optim.Adam(model.parameters(), config.optimizer.learning_rate, fused=True)
    forward = torch.compile(model) if compiled else model

    def update(minibatch):
        loss = torch_loss(forward, minibatch, options)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip)
        adam.step()
        return loss

    def run():
        for _ in range(STEPS):
            with torch.no_grad():
                x, actions, rewards, log_probs, values = torch_rollout(
                    model, config.batch, sizes.arms, sizes.pulls, device
                )
            advantages, returns = torch_advantages(
                rewards, values, options.discount, options.gae_lambda
            )
            experience = x, actions, log_probs, advantages, returns
            for _ in range(options.epochs):
                chunks = (array.chunk(options.minibatches) for array in experience)
                for minibatch in zip(*chunks, strict=True):
                    loss = update(minibatch)
        loss.item()

    return Workload(run)


def step_seconds(history: int, batch: int = 32) -> float:
    """Return the median seconds of one policy step with attention over a history of this length."""
    import jax
    import jax.numpy as jnp

    from models.snail.network import SNAIL

    model = SNAIL(
        inputs=7,
        actions=5,
        embedding=EMBEDDING,
        blocks=f"Att({KEY_WIDTH},{KEY_WIDTH})",
        max_length=history,
        remat="none",
        key=jax.random.key(0),
    )

    @partial(jax.jit, donate_argnums=0)
    def act(cache, x):
        logits, _, cache = model.step(x, cache)
        return cache._replace(t=jnp.minimum(cache.t, history - 1)), logits

    cache, x = model.init_cache(batch), jnp.zeros((batch, 7))
    cache = cache._replace(t=jnp.int32(history - 1))
    seconds = []
    for _ in range(60):
        start = time.perf_counter()
        cache, logits = act(cache, x)
        logits.block_until_ready()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[10:])


def time_by_history() -> list[dict[str, Any]]:
    """Measure the time of a policy step for each length of the history."""
    return [
        {"history": history, "µs per step of 32 trials": 1e6 * step_seconds(history)}
        for history in HISTORY_LENGTHS
    ]


def declare(quick: bool) -> list[Benchmark | Measurement]:
    """Return the benchmark of training and the measurement by length of the history."""
    del quick
    config = make_config()
    actions = STEPS * config.batch * config.environment.sizes.pulls
    return [
        Benchmark("snail", actions, "actions", beside_torch(train_ours, train_torch)),
        Measurement("snail/history", time_by_history),
    ]
