"""Self-attention GAN (Zhang et al. 2019): a generator and a projection discriminator.

Both follow the authors' code. Their depth follows the resolution, 4 · 2^n: the generator has n
residual blocks that upsample the map, the discriminator n blocks that downsample it and one more.
The width grows towards the coarse end, where it is 2^(n-1) times that of the fine end. At 128 x 128
these are the networks of the paper.

Weights are normalized spectrally before they are used, see `models.spectral_norm`.
"""

from models.sagan.discriminator import Discriminator
from models.sagan.generator import Generator, GeneratorOutput

__all__ = ["Discriminator", "Generator", "GeneratorOutput"]
