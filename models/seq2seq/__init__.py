"""Recurrent encoder-decoders with attention (Bahdanau et al. 2015; Luong et al. 2015)."""

from models.seq2seq.luong import Luong
from models.seq2seq.rnnsearch import RNNsearch

__all__ = ["Luong", "RNNsearch"]
