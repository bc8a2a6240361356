"""Neural Turing Machine on the copy task, with the optimizer of the paper.

Paper: Graves et al. 2014, "Neural Turing Machines", sec. 4.6: RMSProp in the form of Graves 2013
with momentum 0.9 and learning rate 1e-4, gradient elements clipped to ±10, for up to a million
sequences. Adam with a larger, decayed learning rate, as in configs/ntm_copy.py, needs a sixth of
the sequences.

    python train.py --config=configs/ntm_copy_rmsprop.py --workdir=runs/ntm_copy_rmsprop

Expected: `test/bits_per_sequence` of 0.002, and below 0.1 after 200,000 sequences; no errors up to
length 50, and `test_120/bit_errors` of 71 of 1,080: results/ntm_copy_rmsprop.

Sized for a laptop: eleven minutes on an idle CPU core.

The heads have no initial biases; other values are from configs/ntm_copy.py.
"""

from ml_collections import ConfigDict

from configs import ntm_copy


def get_config(variant: str = "") -> ConfigDict:
    config = ntm_copy.get_config(variant)
    config.name = "ntm_copy_rmsprop"
    config.model.update(gate_bias=0.0, shift_bias=0.0, erase_bias=0.0)  # as in the reported run
    config.optimizer = ConfigDict(
        {
            "method": "rmsprop",
            "learning_rate": 1e-4,
            "decay": 0.95,
            "momentum": 0.9,
            "eps": 1e-4,
            "clip": 10.0,
        }
    )
    if variant != "smoke":
        config.train.update(steps=62_500, log_every=500, eval_every=2_500, checkpoint_every=2_500)
    return config
