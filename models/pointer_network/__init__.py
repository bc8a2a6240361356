"""Pointer networks (Vinyals et al. 2015)."""

from models.pointer_network.network import PointerNet

__all__ = ["PointerNet"]
