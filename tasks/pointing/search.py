"""Searches for short tours with a trained policy: best of many samples, and Active Search.

Source: Bello et al. 2016, "Neural Combinatorial Optimization with Reinforcement Learning", sec. 4
and algorithm 2. Both functions search for a tour through one instance; `jax.vmap` maps them over
instances. Lengths are Euclidean.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.pointer_network.decoding import ChoiceModel
from tasks.pointing import policy
from tasks.pointing.instances import Tour
from tasks.pointing.options import check_options
from training.errors import UserError

LEAST_TEMPERATURE = 1e-6  # much smaller ones overflow the logits in float32
GRADIENT_CLIP = 1.0  # maximum norm of the gradient, as in training (Bello et al. 2016, sec. 5.1)

# Options of each kind of search, by a valid value, which defines the type and the bounds.
SEARCHES: dict[str, dict[str, Any]] = {
    "beam": {"width": 1},
    "sampling": {"samples": 1, "batch": 1, "temperature": 1.0},
    "active": {
        "steps": 1,
        "batch": 1,
        "learning_rate": 1.0,
        "baseline_decay": 1.0,
        "pretrained": True,
    },
}


def sample_tour(
    model: ChoiceModel,
    cities: Float[Array, "N 2"],
    key: PRNGKeyArray,
    *,
    samples: int,
    batch: int,
    temperature: float,
) -> tuple[Int[Array, " N"], Float[Array, ""]]:
    """Return the shortest of many sampled tours (Bello et al. 2016, sec. 4, "Sampling").

    Args:
        model: the policy.
        cities: one instance.
        key: PRNG key of the samples.
        samples: number of sampled tours.
        batch: number of tours sampled at a time, which bounds the memory.
        temperature: T, by which the logits are divided.

    Returns:
        The tour, from the first city, and its length.
    """
    count = jnp.int32(len(cities))

    def sample_batch(index, best):
        batch_key = jax.random.fold_in(key, index)
        tours = policy.decode_tours(model, cities[None], count, batch_key, batch, temperature)
        lengths = policy.tour_lengths(cities[None], tours)[0]
        is_requested = index * batch + jnp.arange(batch) < samples
        return _shorter(best, tours[0], jnp.where(is_requested, lengths, jnp.inf))

    return jax.lax.fori_loop(0, -(-samples // batch), sample_batch, _no_tour(len(cities)))


def active_search(
    graphdef: nnx.GraphDef[ChoiceModel],
    params: nnx.State,
    cities: Float[Array, "N 2"],
    key: PRNGKeyArray,
    *,
    steps: int | Int[Array, ""],
    batch: int,
    learning_rate: float,
    baseline_decay: float,
) -> tuple[Int[Array, " N"], Float[Array, ""], nnx.State]:
    """Train the policy on one instance, and return the shortest tour that it sampled.

    Source: Bello et al. 2016, algorithm 2. Every step permutes the cities, samples a batch of
    tours, and updates the parameters by Adam with the policy gradient. The baseline is a moving
    average of the mean length, which starts at the mean length of the first batch; the paper does
    not give its start.

    Args:
        graphdef: graph of the policy.
        params: initial parameters: those of a trained policy, or random ones.
        cities: one instance.
        key: PRNG key of the permutations and the samples.
        steps: number of updates.
        batch: number of tours sampled per step.
        learning_rate: learning rate of Adam.
        baseline_decay: alpha, decay rate of the moving average.

    Returns:
        The tour, from the first city, its length, and the trained parameters.
    """
    n = len(cities)
    count, problem = jnp.int32(n), Tour((n, n))
    clip = optax.clip_by_global_norm(GRADIENT_CLIP)
    optimizer = optax.chain(clip, optax.adam(learning_rate))

    def update(index, carry):
        params, opt_state, baseline, best = carry
        order_key, sample_key = jax.random.split(jax.random.fold_in(key, index))
        order = jax.random.permutation(order_key, n)
        permuted = cities[order][None]
        model = nnx.merge(graphdef, params)
        tours = policy.decode_tours(model, permuted, count, sample_key, batch)
        lengths = policy.tour_lengths(permuted, tours)
        mean = jnp.mean(lengths)
        baseline = jnp.where(index == 0, mean, baseline)

        def loss(params):
            model = nnx.merge(graphdef, params)
            advantages = lengths - baseline
            return policy.reinforce_loss(model, problem, permuted, count, tours, advantages)

        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        params = optax.apply_updates(params, updates)
        baseline = baseline_decay * baseline + (1 - baseline_decay) * mean
        return params, opt_state, baseline, _shorter(best, order[tours[0]], lengths[0])

    carry = params, optimizer.init(params), jnp.float32(0), _no_tour(n)
    params, _, _, (tour, length) = jax.lax.fori_loop(0, steps, update, carry)
    return jnp.roll(tour, -jnp.argmin(tour)), length, params


def _no_tour(n):
    return jnp.arange(n), jnp.float32(jnp.inf)


def _shorter(best, tours, lengths):
    """Return the shortest of the best tour so far and of tours `[W, N]`."""
    tour, length = best
    shortest = jnp.argmin(lengths)
    is_shorter = lengths[shortest] < length
    return (
        jnp.where(is_shorter, tours[shortest], tour),
        jnp.where(is_shorter, lengths[shortest], length),
    )


def check_search(options: Mapping[str, Any], supported: tuple[str, ...]) -> None:
    """Check the section `search` of a config.

    Args:
        options: the kind of the search, and its options.
        supported: names in `SEARCHES` that the task supports.

    Raises:
        UserError: if the kind is unknown, an option is unknown or missing, or a value is invalid.
    """
    check_options("search", options, {kind: SEARCHES[kind] for kind in supported})
    if options.get("temperature", 1.0) < LEAST_TEMPERATURE:
        raise UserError(
            f"search.temperature must be at least {LEAST_TEMPERATURE}: for greedy decoding, pass "
            '--config.search=\'{"kind": "beam", "width": 1}\'.'
        )
