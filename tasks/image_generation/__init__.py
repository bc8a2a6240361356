"""Image generation by a generative adversarial network."""

from typing import Any

from tasks.image_generation.task import ImageGeneration, build, build_abstract

__all__ = ["ImageGeneration", "build", "build_abstract", "complete_config"]


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """Add the option of the evaluation that runs of version 0.1.0 did not have."""
    return config | {"evaluation": {"intra_class_samples": 0} | config["evaluation"]}
