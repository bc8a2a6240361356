"""SNAIL, few-shot classification of letters from unseen scripts, with one or five examples each.

Paper: Mishra et al. 2018, "A simple neural attentive meta-learner", table 1, 5-way Omniglot: 99.07
+- 0.16 with one shot and 99.78 +- 0.09 with five. Here the letters are rendered from fonts, with
random affine distortion, so no download is needed. No printed row: results on these letters, with
a smaller network, are not comparable. The baseline is a nearest neighbor in pixels.

    python train.py --config=configs/snail_fewshot.py --workdir=runs/snail_fewshot

Expected: test/accuracy_1_shot 0.90 and test/accuracy_5_shot 0.95, against 0.55 and 0.83 of
`nearest_neighbor_1_shot` and `nearest_neighbor_5_shot`; 0.2 with
`--config.data.shuffle_labels=True`.

Sized for a laptop: seven minutes on one CPU core.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    config = ConfigDict()
    config.name = "snail_fewshot"
    config.task = "few_shot"
    config.seed = 0
    config.rows, config.paper = (), {}

    config.data = {
        "source": "glyphs",
        "data_dir": "",
        "image_size": 16,
        "ways": 5,
        "shots": (1, 5),
        "queries": 1,  # images to classify per episode
        "distortion": 0.5,
        "shuffle_labels": False,
    }
    config.batch = 64
    config.evaluation = {"episodes": 1_600, "distortion": 0.5}
    config.model = {
        "encoder": "convolutional",
        "filters": 16,
        "embedding": 32,
        "dropout": 0.0,
        "label_scale": 1.0,
        "blocks": "Att(16,16) TC(16) Att(16,16)",
        "tied_init": 0.0,  # 0 for independent initial queries and keys
        "remat": "none",
    }
    config.optimizer = {
        "method": "adam",
        "schedule": "cosine",
        "learning_rate": 3e-3,
        "warmup_steps": 10,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "clip": 1.0,
    }
    config.train = {
        "steps": 2_000,
        "accumulate": 1,
        "log_every": 20,
        "eval_every": 500,
        "checkpoint_every": 500,
        "keep": 2,
        "average": 1,
        "best": "dev/accuracy_1_shot",
        "best_mode": "max",
        "init_from": "none",
    }
    config.optimizer.steps = config.train.get_oneway_ref("steps")
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 2

    if variant == "smoke":
        config.data.update(ways=2, shots=(1, 2))
        config.batch = 4
        config.evaluation.episodes = 4
        config.model.update(filters=4, embedding=8, blocks="Att(4,4) TC(4)")
        config.optimizer.update(warmup_steps=1)
        config.train.update(steps=4, log_every=1, eval_every=2, checkpoint_every=2)
    elif variant:
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    return config
