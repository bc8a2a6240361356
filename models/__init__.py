"""Models: `flax.nnx` modules that hold weights and call the functions in `attention`."""

from models.encoder_decoder import Attention, EncoderDecoder
from models.seq2seq.luong import Luong
from models.seq2seq.rnnsearch import RNNsearch
from models.transformer import Transformer

__all__ = ["Attention", "EncoderDecoder", "Luong", "RNNsearch", "Transformer"]
