"""A pointer network as a distribution over solutions: log-probabilities, samples, policy gradient.

Source: Vinyals et al. 2015, "Pointer Networks", eq. 1; Bello et al. 2016, "Neural Combinatorial
Optimization with Reinforcement Learning", sec. 3 and 4.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from attention.pointer import chosen_before
from models.pointer_network.decoding import ChoiceModel
from tasks.pointing.held_karp import tour_length
from tasks.pointing.instances import Problem, Tour


def log_probs(
    model: ChoiceModel,
    problem: Problem,
    points: Float[Array, "B N 2"],
    count: Int[Array, ""],
    choices: Int[Array, "B W T"],
    constrained: bool,
) -> tuple[Float[Array, "B W T S"], Bool[Array, "B W T"]]:
    """Compute the log-probabilities of all indices at every step of given solutions.

    Args:
        model: the network.
        problem: masks and lengths of the solutions.
        points: `[B, N, 2]`.
        count: number of points of every instance.
        choices: W padded solutions per instance.
        constrained: mask choices that make a solution invalid.

    Returns:
        The log-probabilities, and the target mask.
    """
    size, length = points.shape[1], choices.shape[-1]
    target_mask = problem.target_mask(choices, size)
    steps = problem.max_steps(count)
    if problem.has_end_token:
        steps = jnp.max(jnp.sum(target_mask, axis=-1))  # steps of the longest solution
    chosen = jnp.pad(chosen_before(choices, size), ((0, 0), (0, 0), (0, 0), (0, 1)))
    mask_fn = problem.valid_mask if constrained else problem.padding_mask
    mask = mask_fn(chosen, jnp.arange(length)[:, None], count)
    return model(points, count, choices, steps, mask), target_mask


def sequence_log_prob(
    log_probs: Float[Array, "*B T S"], choices: Int[Array, "*B T"], mask: Bool[Array, "*B T"]
) -> Float[Array, "*B"]:
    """Compute `log p(C_1, ..., C_m)`, the sum of the log-probabilities of the choices.

    Args:
        log_probs: log-probabilities of all indices at every step.
        choices: padded solutions.
        mask: target mask of the steps.
    """
    # A one-hot mask instead of a gather, because the gradient of a gather is a scatter.
    chosen = mask[..., None] & (choices[..., None] == jnp.arange(log_probs.shape[-1]))
    return jnp.sum(jnp.where(chosen, log_probs, 0.0), axis=(-2, -1))


def decode_tours(
    model: ChoiceModel,
    cities: Float[Array, "B N 2"],
    count: Int[Array, ""],
    key: PRNGKeyArray | None = None,
    samples: int = 1,
    temperature: float | Float[Array, ""] = 1.0,
    starts: Int[Array, " W"] | None = None,
) -> Int[Array, "B W N"]:
    """Sample W tours per instance; without a key, W = 1 greedy tour.

    Args:
        model: the network.
        cities: `[B, N, 2]`.
        count: number of cities of every instance.
        key: PRNG key of the samples.
        samples: W.
        temperature: T, by which the logits are divided.
        starts: `[W]`, first city of each sample; None for city 0.
    """
    n = cities.shape[1]
    problem = Tour((n, n))

    def mask_fn(chosen, position):
        valid = problem.valid_mask(chosen, position, count)
        if starts is None:
            return valid
        return jnp.where(position == 0, jax.nn.one_hot(starts, n + 1, dtype=bool), valid)

    return model.decode(cities, count, count, n, mask_fn, False, key, samples, temperature)


def tour_lengths(cities: Float[Array, "B N 2"], tours: Int[Array, "B W N"]) -> Float[Array, "B W"]:
    """Compute the lengths of W closed tours per instance."""
    return jax.vmap(tour_length, in_axes=(None, 1), out_axes=1)(cities, tours)


def reinforce_loss(
    model: ChoiceModel,
    problem: Problem,
    cities: Float[Array, "B N 2"],
    count: Int[Array, ""],
    tours: Int[Array, "B W N"],
    advantages: Float[Array, "B W"],
) -> Float[Array, ""]:
    """Compute a loss whose gradient is the policy gradient (Bello et al. 2016, eq. 4).

    The first city of each tour is given, not sampled, so its log-probability is not in the loss.

    Args:
        model: the network.
        problem: masks of the tours.
        cities: `[B, N, 2]`.
        count: number of cities of every instance.
        tours: W sampled tours per instance.
        advantages: length of each tour minus its baseline.
    """
    step_log_probs, mask = log_probs(model, problem, cities, count, tours, constrained=True)
    is_sampled = mask & (jnp.arange(mask.shape[-1]) > 0)
    return jnp.mean(advantages * sequence_log_prob(step_log_probs, tours, is_sampled))
