"""Plays and learns bandits here and in PyTorch: `python -m benchmarks.snail`.

The network and the trials of configs/snail_bandits.py: as many trials side by side, acting a step
at a time with caches, then the same epochs of PPO over whole trials. PyTorch's environments are
objects in Python, one for each trial, that take an action and return a reward; its network acts for
all of them at once, eager, and learns eager or compiled, with the fused form of Adam. What counts
is actions a second, acting and learning together. Beside it: what a step of acting costs after a
longer history.
"""

import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import race

ROUNDS, STEPS = 3, 1  # rounds, and updates in each
FILTERS, KEYS, EMBEDDING = 32, 32, 32
HISTORIES = (64, 256, 1024)


def config() -> Any:
    """What both train."""
    from configs.snail_bandits import get_config

    return get_config()


def train_ours() -> Callable[[], None]:
    """The task's own step, compiled and fed as the loop does it."""
    import tasks

    task = tasks.build(config(), "")
    batches = [next(task.batches("train", 0))] * STEPS
    return race.train_ours(task, batches, config().cpu_devices)


class PythonBandit:
    """A trial's bandit, in Python."""

    def __init__(self, arms: int):
        self.chances = [random.random() for _ in range(arms)]

    def step(self, action: int) -> float:
        """What the arm pays."""
        return 1.0 if random.random() < self.chances[action] else 0.0


def torch_snail(inputs: int, actions: int, length: int) -> Any:
    """The same network in PyTorch, with the same two ways through it."""
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812  as everyone calls it

    levels = (length - 1).bit_length()

    class Snail(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Linear(inputs, EMBEDDING)
            self.dilations = [2**i for _ in range(2) for i in range(levels)]
            widths = [EMBEDDING + FILTERS * i for i in range(len(self.dilations))]
            self.taps = nn.ModuleList(nn.Linear(w, 4 * FILTERS, bias=False) for w in widths)
            self.biases = nn.ParameterList(torch.zeros(2 * FILTERS) for _ in widths)
            width = widths[-1] + FILTERS
            self.attention = nn.Linear(width, 3 * KEYS)
            self.heads = nn.Linear(width + KEYS, actions + 1)

        def gate(self, x, sums):
            filters, gates = sums.chunk(2, dim=-1)
            return torch.cat([x, torch.tanh(filters) * torch.sigmoid(gates)], dim=-1)

        def forward(self, x):
            x = self.embed(x)
            for taps, bias, dilation in zip(self.taps, self.biases, self.dilations, strict=True):
                past, present = taps(x).chunk(2, dim=-1)
                past = F.pad(past, (0, 0, dilation, 0))[:, : x.shape[1]]
                x = self.gate(x, past + present + bias)
            q, k, v = self.attention(x).chunk(3, dim=-1)
            x = torch.cat([x, F.scaled_dot_product_attention(q, k, v, is_causal=True)], dim=-1)
            said = self.heads(x)
            return said[..., :-1], said[..., -1]

        def cache(self, batch):
            zeros = self.biases[0].new_zeros
            rings = [zeros(d, batch, 2 * FILTERS) for d in self.dilations]
            return rings, zeros(2, batch, length, KEYS)

        def step(self, x, cache, t):
            rings, memory = cache
            x = self.embed(x)
            for taps, bias, ring in zip(self.taps, self.biases, rings, strict=True):
                past, present = taps(x).chunk(2, dim=-1)
                sums = ring[t % len(ring)] + present + bias
                ring[t % len(ring)] = past
                x = self.gate(x, sums)
            q, memory[0, :, t], memory[1, :, t] = self.attention(x).chunk(3, dim=-1)
            keys, values = memory[:, :, : t + 1]
            read = F.scaled_dot_product_attention(q[:, None], keys, values)[:, 0]
            said = self.heads(torch.cat([x, read], dim=-1))
            return said[..., :-1], said[..., -1]

    return Snail()


def train_torch(compiled: bool) -> Callable[[], None]:
    """The same in PyTorch."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    whole = config()
    options, sizes, batch = whole.ppo, whole.environment.sizes, whole.batch
    arms, pulls = sizes.arms, sizes.pulls
    device = race.torch_device()
    model = torch_snail(arms + 2, arms, pulls).to(device)
    adam = torch.optim.Adam(model.parameters(), whole.optimizer.peak, fused=True)
    forward = torch.compile(model) if compiled else model

    @torch.no_grad()
    def play():
        bandits = [PythonBandit(arms) for _ in range(batch)]
        cache, x = model.cache(batch), torch.zeros(batch, arms + 2, device=device)
        kept: list[list[Any]] = [[] for _ in range(5)]
        for t in range(pulls):
            logits, values = model.step(x, cache, t)
            logs = F.log_softmax(logits, dim=-1)
            actions = torch.multinomial(logs.exp(), 1)
            pulled = zip(bandits, actions[:, 0].tolist(), strict=True)
            paid = [bandit.step(action) for bandit, action in pulled]
            rewards = torch.tensor(paid, device=device)
            met = x, actions[:, 0], rewards, logs.gather(1, actions)[:, 0], values
            for before, new in zip(kept, met, strict=True):
                before.append(new)
            done = torch.ones(batch, 1, device=device)
            x = torch.cat([F.one_hot(actions[:, 0], arms).float(), rewards[:, None], done], dim=-1)
        return [torch.stack(steps, dim=1) for steps in kept]

    def learn(x, actions, old, advantages, returns):
        logits, values = forward(x)
        logs = F.log_softmax(logits, dim=-1)
        ratio = (logs.gather(2, actions[..., None])[..., 0] - old).exp()
        clipped = ratio.clamp(1 - options.clip, 1 + options.clip)
        surrogate = torch.minimum(ratio * advantages, clipped * advantages).mean()
        error = 0.5 * (values - returns).square().mean()
        entropy = -(logs.exp() * logs).sum(-1).mean()
        loss = -surrogate + options.value_weight * error - options.entropy * entropy
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), whole.optimizer.clip)
        adam.step()
        return loss

    def run():
        for _ in range(STEPS):
            x, actions, rewards, old, values = play()
            ahead, returns = torch.zeros_like(values[:, 0]), torch.zeros_like(values)
            for t in reversed(range(pulls)):
                returns[:, t] = ahead = rewards[:, t] + options.discount * ahead
            usual = returns.mean(0)
            scale = (returns - usual).std(correction=0) + 1e-8
            baseline = usual + scale * values
            advantages, ahead = torch.zeros_like(values), torch.zeros_like(values[:, 0])
            for t in reversed(range(pulls)):
                after = baseline[:, t + 1] if t + 1 < pulls else 0.0
                delta = rewards[:, t] + options.discount * after - baseline[:, t]
                advantages[:, t] = ahead = delta + options.discount * options.trace * ahead
            returns = values + advantages / scale
            advantages = (advantages - advantages.mean(0)) / (advantages.std() + 1e-8)
            for _ in range(options.epochs):
                parts = zip(
                    *(y.chunk(options.minibatches) for y in (x, actions, old, advantages, returns)),
                    strict=True,
                )
                for part in parts:
                    loss = learn(*part)
        loss.item()

    return run


def step_seconds(longest: int, batch: int = 32) -> float:
    """Of one step of acting by attention alone, at the end of such a history."""
    import jax
    import jax.numpy as jnp

    from models.snail.network import SNAIL

    model = SNAIL(
        inputs=7,
        actions=5,
        embedding=EMBEDDING,
        blocks=f"Att({KEYS},{KEYS})",
        longest=longest,
        key=jax.random.key(0),
    )

    @partial(jax.jit, donate_argnums=0)
    def act(cache, x):
        logits, _, cache = model.step(x, cache)
        return cache._replace(t=jnp.minimum(cache.t, longest - 1)), logits

    cache, x = model.init_cache(batch), jnp.zeros((batch, 7))
    cache = cache._replace(t=jnp.int32(longest - 1))
    seconds = []
    for _ in range(60):
        start = time.perf_counter()
        cache, logits = act(cache, x)
        logits.block_until_ready()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[10:])


def main() -> None:
    """Races the forms; prints a table and the line of JSON."""
    growth = {longest: step_seconds(longest) for longest in HISTORIES}
    for longest, took in growth.items():
        print(f"a step of 32 agents after {longest:>5,} others  {1e6 * took:>8,.0f} µs")
    whole = config()
    actions = STEPS * whole.batch * whole.environment.sizes.pulls
    forms: dict[str, race.Contestant] = {
        "ours": train_ours,
        "torch eager": partial(train_torch, compiled=False),
        "torch compiled": partial(train_torch, compiled=True),
    }
    race.compare(
        "snail",
        actions,
        forms,
        unit="actions/s",
        rounds=ROUNDS,
        step_microseconds={str(n): round(1e6 * x, 1) for n, x in growth.items()},
    )


if __name__ == "__main__":
    main()
