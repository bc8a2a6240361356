"""Models: flax.nnx containers of weights around the kernels of `attention`."""

from models.transformer import Transformer

__all__ = ["Transformer"]
