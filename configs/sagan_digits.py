"""Small self-attention GAN that generates handwritten digits.

Zhang et al. 2019, "Self-Attention Generative Adversarial Networks": the model of sec. 3 at 32 x 32,
with the paper's losses and spectral normalization. The dataset is the 1,797 digits of scikit-learn,
resized from 8 x 8 to 32 x 32 and augmented by small rotations, scalings and shifts. No printed row:
the paper has no results on digits.

    python train.py --config=configs/sagan_digits.py --workdir=runs/digits

The learning rates differ from the paper's (1e-4 and 4e-4, for a million steps of 256 images).
Expected: test/class_accuracy 0.99, the share of generated digits that a classifier trained on the
real digits assigns to the class they are conditioned on.
Sized for a laptop: four minutes on two CPU cores.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    """Return the config, or with `variant='smoke'` one that runs in seconds."""
    if variant not in ("", "smoke"):
        raise ValueError(f"there is no variant {variant!r}, only 'smoke'")
    config = ConfigDict()
    config.name = "sagan_digits"
    config.task = "image_generation"
    config.seed = 0
    config.rows, config.paper = (), {}
    config.batch = 32

    config.data = {"source": "digits", "resolution": 32, "channels": 1}
    # Degrees, relative size, pixels, and horizontal flips.
    config.augment = {"rotate": 8.0, "scale": 0.08, "shift": 1.5, "flip": False}
    config.model = {
        "conditional": True,
        "width": {"generator": 12, "discriminator": 8},
        "latent_size": 64,
        "attention": "self",  # or none, residual
        "attention_resolution": 16,  # resolution of the maps with attention, in both networks
        "dtype": "float32",
        "ema_decay": 0.998,  # decay of the generator's moving average
        "moment_batches": 16,  # batches for the moments of its batch norms
    }
    adam = {
        "method": "adam",
        "schedule": "constant",
        "warmup_steps": 0,
        "b1": 0.0,
        "b2": 0.9,
        "eps": 1e-8,
        "clip": 0.0,
    }
    config.optimizer = {
        "generator": adam | {"learning_rate": 4e-4},
        "discriminator": adam | {"learning_rate": 1.2e-3},
    }
    # A run stops if, for `patience` consecutive steps, the discriminator's loss or the diversity of
    # the generated images, relative to the real images, is below its minimum.
    config.divergence = {"patience": 300, "min_loss": 0.01, "min_diversity": 0.05}
    config.evaluation = {
        "samples": 2500,
        "batch": 250,
        "neighbor_samples": 2000,  # for precision, recall and diversity
        "intra_class_samples": 0,  # per class, for intra_fid
        "inception_weights": "",
        "classifier": {
            "width": 16,
            "features": 64,
            "steps": 500,
            "batch": 64,
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
        "init_from": "none",
    }
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.cpu_devices = 1

    if variant == "smoke":
        config.batch = 8
        config.data.resolution = 16
        config.model.update(latent_size=4, attention_resolution=8, moment_batches=1)
        config.model.width = {"generator": 4, "discriminator": 8}
        config.evaluation.update(samples=16, batch=8, neighbor_samples=16, intra_class_samples=4)
        config.evaluation.classifier.update(width=2, features=4, steps=2, batch=8)
        config.train.update(steps=4, log_every=1, eval_every=2, checkpoint_every=2)
    return config.lock()
