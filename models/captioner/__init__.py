"""Image captioning with attention over positions of a feature map (Xu et al. 2015)."""

from models.captioner.network import Captioner

__all__ = ["Captioner"]
