"""Neural Turing Machine (Graves et al. 2014)."""

from models.ntm.controllers import LSTMController
from models.ntm.network import NTM, LSTMBaseline, MemoryAccess

__all__ = ["NTM", "LSTMBaseline", "LSTMController", "MemoryAccess"]
