"""The Neural Turing Machine learns to copy, by the optimiser of its paper.

Paper: Graves et al. 2014, "Neural Turing Machines", sec. 4.6: RMSProp in the form of Graves 2013
with a momentum of 0.9 and a learning rate of 1e-4, each element of a gradient within ±10; curves go
to a million sequences. Adam with a higher rate that falls, as in configs/ntm_copy.py, learns the
same from a sixth of them, nine seeds of ten; this is for those who want the paper's own.

    python train.py --config=configs/ntm_copy_rmsprop.py --workdir=runs/ntm_copy_rmsprop

Expected: not run to its end yet.

Sized for a laptop: half an hour on two CPU cores. All else as in configs/ntm_copy.py.
"""

from ml_collections import ConfigDict

from configs import ntm_copy


def get_config(variant: str = "") -> ConfigDict:
    config = ntm_copy.get_config(variant)
    config.name = "ntm_copy_rmsprop"
    config.optimizer = ConfigDict(
        {
            "method": "rmsprop",
            "peak": 1e-4,
            "decay": 0.95,
            "momentum": 0.9,
            "eps": 1e-4,
            "clip": 10.0,
        }
    )
    if variant != "smoke":
        config.train.update(steps=62_500, log_every=500, eval_every=2_500, checkpoint_every=2_500)
    return config
