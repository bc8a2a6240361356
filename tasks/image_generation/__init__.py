"""Image generation by a generative adversarial network."""

from tasks.image_generation.task import ImageGeneration, build, build_abstract

__all__ = ["ImageGeneration", "build", "build_abstract"]
