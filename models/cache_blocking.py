"""Networks of images, applied to a few images at a time (cache blocking).

The feature maps of a large batch do not fit into the cache of a CPU, so that every operation reads
and writes main memory. `map_images` therefore loops over groups of up to 16 images. The backward
pass computes the maps of a group again, except those that the network marks by `keep`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray

from models.device_batch import divided_axes, example_keys, is_on_cpu

GROUP_SIZE = 16  # 8 and 32 are slower for small maps, see benchmarks/README.md
KEPT = "kept"


def keep(x: Float[Array, "B *D"]) -> Float[Array, "B *D"]:
    """Return an intermediate result of a network, marked so that `map_images` stores it."""
    return checkpoint_name(x, KEPT)


def map_images(
    network: Callable[..., Float[Array, "B D"]],
    images: Float[Array, "B P P C"],
    key: PRNGKeyArray | None = None,
) -> Float[Array, "B D"]:
    """Compute `network(images, keys)`: on a CPU in groups of images, elsewhere at once.

    Args:
        network: module (`nnx.Module`) that embeds each image independently of the others.
        images: batch. If devices cannot have equal parts of it, it is one group.
        key: PRNG key of the dropout, from which each image has its own key, so that masks do not
            depend on the groups. None without dropout.
    """
    keys = None if key is None else example_keys(key, len(images))
    mesh, axes = jax.sharding.get_abstract_mesh(), divided_axes()
    if len(images) % math.prod(mesh.shape[axis] for axis in axes) or not is_on_cpu():
        return network(images, keys)
    graphdef, params = nnx.split(network)

    def embed_groups(params, images, keys):
        # On several devices, parameters are marked as varying, so that their gradients are summed
        # over devices once, after the loop.
        params = jax.tree.map(lambda x: lax.pcast(x, axes, to="varying"), params)
        embed = jax.checkpoint(
            lambda group: nnx.merge(graphdef, params)(*group),
            policy=jax.checkpoint_policies.save_only_these_names(KEPT),
        )
        groups = math.ceil(len(images) / GROUP_SIZE)
        size = math.ceil(len(images) / groups)
        # The first images also fill the last group.
        index = jnp.arange(groups * size).reshape(groups, size) % len(images)
        embedded = lax.map(embed, jax.tree.map(lambda x: x[index], (images, keys)))
        return embedded.reshape(groups * size, -1)[: len(images)]

    if axes:  # each device loops over its own images
        replicated, sharded = PartitionSpec(), PartitionSpec(axes)
        embed_groups = jax.shard_map(
            embed_groups,
            in_specs=(replicated, sharded, sharded),
            out_specs=sharded,
            axis_names={*axes},
        )
    return embed_groups(params, images, keys)
