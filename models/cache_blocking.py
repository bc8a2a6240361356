"""Networks of images, applied to a few images at a time (cache blocking).

The feature maps of a large batch do not fit into the cache of a CPU, so that every operation reads
and writes main memory. `map_images` therefore loops over groups of a few images. The backward pass
computes the maps of a group again, so that they are not stored, either.
"""

import math
from collections.abc import Callable

import jax
from flax import nnx
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray

from models.device_batch import divided_axes, example_keys, is_on_cpu

GROUP_SIZE = 4  # the fastest of 1 to 16, for maps of 28 x 28 x 32 and of 28 x 28 x 64


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
    count, rest = divmod(len(images), math.prod(mesh.shape[axis] for axis in axes))
    if rest or not is_on_cpu():
        return network(images, keys)
    size = next(size for size in range(GROUP_SIZE, 0, -1) if count % size == 0)
    groups = images.reshape(-1, size, *images.shape[1:])
    keys = None if keys is None else keys.reshape(-1, size)
    graphdef, params = nnx.split(network)

    def embed_groups(params, groups, keys):
        # On several devices, parameters are marked as varying, so that their gradients are summed
        # over devices once, after the loop.
        params = jax.tree.map(lambda x: lax.pcast(x, axes, to="varying"), params)
        embed = jax.checkpoint(lambda group: nnx.merge(graphdef, params)(*group))
        return lax.map(embed, (groups, keys))

    if axes:  # each device loops over its own images
        replicated, sharded = PartitionSpec(), PartitionSpec(axes)
        embed_groups = jax.shard_map(
            embed_groups,
            in_specs=(replicated, sharded, sharded),
            out_specs=sharded,
            axis_names={*axes},
        )
    return embed_groups(params, groups, keys).reshape(len(images), -1)
