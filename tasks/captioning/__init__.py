"""Image captioning with attention (Xu et al. 2015)."""

from tasks.captioning.task import Captioning, build, build_abstract

__all__ = ["Captioning", "build", "build_abstract"]
