r"""SNAIL on Omniglot: 20-way classification from one to five examples of each character.

Paper: Mishra et al. 2018, "A simple neural attentive meta-learner", Table 1, Omniglot, 20-way:
97.64 +- 0.30 with one shot and 99.36 +- 0.18 with five. The 5-way row, 99.07 +- 0.16 and 99.78 +-
0.09, is `--config.data.ways=5`, with which a run still shows the values of the 20-way row;
configs/sweeps/snail_fewshot.py has both rows.

    python train.py --config=configs/snail_omniglot.py --config.data.data_dir=DIR \
        --workdir=runs/snail_omniglot

DIR contains `images_background.zip` and `images_evaluation.zip` from
https://github.com/brendenlake/omniglot, folder python, and `all_runs.zip` for the 20 runs of
one-shot classification within alphabets (Lake et al. 2015), reported as `test/one_shot_error`.

The blocks and the number of shots per training episode are from the paper, the convolutions from
other implementations. The test classes are Omniglot's evaluation set, whose alphabets are not in
the training set; the paper splits the characters at random. Layer normalization replaces batch
normalization. The learning rate, the batch size and the number of steps are chosen here.

Not yet run.
Sized for one GPU.
"""

from ml_collections import ConfigDict

from configs import snail_fewshot
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    """Return the config, or with `variant='smoke'` one that runs in seconds on given archives."""
    config = snail_fewshot.get_config(variant)
    config.name = "snail_omniglot"
    config.rows = ("mishra2018/table 1/Omniglot, 20-way",)
    config.paper = printed(config.rows)
    config.data.update(source="omniglot_zips", distortion=0.0)
    config.evaluation.distortion = 0.0
    if variant == "smoke":
        config.data.update(image_size=16, shots=(1, 5))
        return config
    config.data.update(image_size=28, ways=20, shots=(1, 2, 3, 4, 5))
    config.batch = 32
    config.cpu_devices = 1  # two devices map temporaries of more than 64 MiB anew at every step
    config.evaluation.episodes = 1_600
    config.model.update(
        filters=64,
        embedding=64,
        blocks="Att(64,32) TC(128) Att(256,128) TC(128) Att(512,256)",
    )
    config.optimizer.update(learning_rate=1e-3, warmup_steps=1_000)
    config.train.update(steps=60_000, log_every=100, eval_every=2_000, checkpoint_every=2_000)
    return config
