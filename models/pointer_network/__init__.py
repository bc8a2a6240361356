"""Pointer networks (Vinyals et al. 2015) and the Attention Model (Kool et al. 2019)."""

from models.pointer_network.attention_model import AttentionModel
from models.pointer_network.network import PointerNet

__all__ = ["AttentionModel", "PointerNet"]
