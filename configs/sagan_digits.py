"""A small self-attention GAN that draws handwritten digits.

Zhang et al. 2019, "Self-Attention Generative Adversarial Networks": the model of sec. 3 at 32 x 32,
with losses and normalisation as printed. Digits are the 1,797 real ones that scikit-learn ships,
brought from 8 x 8 to 32 x 32, and turned, scaled and shifted a little.

    python train.py --config=configs/sagan_digits.py --workdir=runs/digits

Learning rates are not the paper's (1e-4 and 4e-4, for a million steps of 256 images).
Expected: test/class_accuracy 0.99, the share of drawn digits that a classifier trained on the real
ones assigns to the class that was asked for.
Sized for a laptop: four minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from training.errors import UserError


def get_config(variant: str = "") -> ConfigDict:
    """The config, or with `variant='smoke'` one that runs in seconds."""
    if variant not in ("", "smoke"):
        raise UserError(f"there is no variant '{variant}', only 'smoke'")
    config = ConfigDict()
    config.name = "sagan_digits"
    config.task = "image_generation"
    config.seed = 0
    config.paper = {}  # the digits are ours
    config.batch = 32

    config.data = {"source": "digits", "resolution": 32, "channels": 1}
    config.augment = {"rotate": 8.0, "scale": 0.08, "shift": 1.5, "flip": False}
    config.model = {
        "conditional": True,
        "width": {"generator": 12, "discriminator": 8},
        "latent": 64,
        "attention": "self",  # or none, residual
        "feature": 16,  # rows and columns of the map that attends, in both networks
        "dtype": "float32",
        "average": 0.998,  # how much of the averaged generator a step leaves
        "moments": 16,  # batches, for the averaged generator's batch norms
    }
    adam = {
        "method": "adam",
        "schedule": "constant",
        "warmup": 0,
        "b1": 0.0,
        "b2": 0.9,
        "eps": 1e-8,
        "clip": 0.0,
    }
    config.optimizer = {
        "generator": adam | {"peak": 4e-4},
        "discriminator": adam | {"peak": 1.2e-3},
    }
    # When a run is stopped: after `patience` steps in a row in which the discriminator's loss or
    # the difference of drawn images, beside that of real ones, is less than this.
    config.health = {"patience": 300, "least_loss": 0.01, "least_diversity": 0.05}
    config.evaluation = {
        "samples": 2500,
        "rows": 250,
        "neighbours_among": 2000,
        "inception_weights": "",
        "classifier": {
            "width": 16,
            "features": 64,
            "steps": 500,
            "rows": 64,
            "learning_rate": 2e-3,
        },
    }
    config.train = {
        "steps": 2000,
        "log_every": 25,
        "eval_every": 500,
        "checkpoint_every": 500,
        "keep": 1,
        "average": 1,
        "best": "dev/fid_classifier",
        "best_mode": "min",
    }
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 1

    if variant == "smoke":
        config.batch = 8
        config.data.resolution = 16
        config.model.update(latent=4, feature=8, moments=1)
        config.model.width = {"generator": 4, "discriminator": 8}
        config.evaluation.update(samples=16, rows=8, neighbours_among=16)
        config.evaluation.classifier.update(width=2, features=4, steps=2, rows=8)
        config.train.update(steps=4, log_every=1, eval_every=2, checkpoint_every=2)
    return config.lock()
