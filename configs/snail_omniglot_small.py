r"""SNAIL on the one-shot classification task of Omniglot, trained on a small background set.

Paper: Lake et al. 2019, "The Omniglot challenge: a 3-year progress report", the 20 runs of 20-way
one-shot classification within alphabets, trained on five alphabets: an error of about 0.30 of the
prototypical network. The model is the one of Mishra et al. 2018, "A simple neural attentive
meta-learner", at a smaller size, with 20 queries per episode.

    python train.py --config=configs/snail_omniglot_small.py --config.data.data_dir=DIR \
        --workdir=runs/omniglot_small1

DIR contains `images_background_small1.zip`, `images_background_small2.zip` and `all_runs.zip` from
https://github.com/brendenlake/omniglot, folder python. The second set is
`--config.data.source=omniglot_small2`; the paper's figure is a mean over both. One alphabet of the
set is held out to choose the checkpoint. The baselines are nearest neighbors by pixels and by
modified Hausdorff distance; the latter has an error of 0.388, as in the authors' demo.

With independent initial queries and keys, or labels of the scale of the paper, short runs stayed at
chance for 120 steps; with `tied_init` and `label_scale` the accuracy left chance after about 100.

Expected: `test/one_shot_error` of 0.26 with the first set and 0.245 with the second:
results/snail_omniglot_small. configs/sweeps/snail_omniglot_small.py trains both.

Sized for a laptop: half an hour on one CPU core.
"""

from ml_collections import ConfigDict

from configs import snail_fewshot
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    """Return the config, or with `variant='smoke'` one that runs in seconds on given archives."""
    config = snail_fewshot.get_config(variant)
    config.name = "snail_omniglot_small"
    config.rows = ("lake2019/one-shot classification/prototypical net, small background sets",)
    config.paper = printed(config.rows)
    config.data.update(source="omniglot_small1", ways=20, shots=(1,), queries=20, distortion=0.4)
    config.evaluation.distortion = 0.0
    if variant == "smoke":
        config.data.queries = 2
        return config
    config.data.image_size = 28
    config.batch = 16
    config.evaluation.episodes = 320
    config.model.update(
        filters=32,
        embedding=64,
        label_scale=4.0,
        blocks="Att(32,32) TC(32) Att(32,32)",
        tied_init=0.5,
    )
    config.optimizer.update(learning_rate=2e-3, warmup_steps=100)
    config.train.update(steps=2_500, eval_every=500, checkpoint_every=500)
    return config
