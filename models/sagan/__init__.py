"""The self-attention GAN (Zhang et al. 2019)."""

from models.sagan.networks import Discriminator, Generator

__all__ = ["Discriminator", "Generator"]
