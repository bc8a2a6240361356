"""Self-attention GAN (Zhang et al. 2019): a generator and a projection discriminator.

Both networks follow the authors' code. For images of resolution 4 · 2^n, the generator has n
residual blocks that upsample the map. The discriminator has n residual blocks that downsample the
map, and one that keeps its size. The number of channels grows from `width` at the finest map to
2^(n-1) times `width` at the coarsest map. At 128 x 128, these are the networks of the paper.

Spectral normalization is applied to the weights before use; see `models.spectral_norm`.
"""

from models.sagan.discriminator import Discriminator
from models.sagan.generator import Generator, GeneratorOutput

__all__ = ["Discriminator", "Generator", "GeneratorOutput"]
