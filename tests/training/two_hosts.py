"""One process of a run on two hosts: prints results of collectives, then trains the toy task.

python -m tests.training.two_hosts HOST:PORT INDEX WORKDIR
"""

import json
import sys

import jax
import numpy as np

from tests import toy
from tests.training.runs import toy_config
from training import hosts, mesh
from training.loop import fit

TOY_CHANGES = {"train__steps": 8, "train__checkpoint_every": 4, "train__eval_every": 4}


class DistributedToy(toy.Toy):
    """Toy task whose evaluation is distributed over hosts."""

    def evaluate(self, state, split):
        def loss(seed):
            return self.loss(state.params, self.batch(seed), jax.random.key(0))[:2]

        losses = list(hosts.map_over_hosts(lambda seed: jax.device_get(loss(seed)), range(5)))
        total, weight = map(sum, zip(*losses, strict=True))
        return {"error": float(total / weight)}


def train(workdir):
    """Train the toy task, on all hosts of the run."""
    config = toy_config(**TOY_CHANGES)
    return fit(DistributedToy(config), config, str(workdir))


def collectives():
    """Return this host's view of the collectives of `training.hosts` and `training.mesh`."""
    mapped = hosts.map_over_hosts(lambda i: (jax.process_index(), np.arange(i)), iter(range(5)))
    batch = mesh.shard_batch({"x": np.arange(8)}, mesh.make_mesh(data=-1, fsdp=1, tensor=1))
    gathered = hosts.all_gather(batch)["x"]
    shards = [x for shard in batch["x"].addressable_shards for x in shard.data.tolist()]
    return {
        "is_primary": hosts.is_primary(),
        "mapped": [(host, x.tolist()) for host, x in mapped],
        "shards": shards,
        "gathered": gathered.tolist(),
        "devices": [device.process_index for device in gathered.devices()],
    }


if __name__ == "__main__":
    coordinator, index, workdir = sys.argv[1:]
    hosts.initialize_distributed(coordinator, 2, int(index))
    print(json.dumps(collectives()), flush=True)
    train(workdir)
