"""Distributions of initial weights compared with PyTorch, layer by layer.

Each intended difference is documented with its reason and the ratio of standard deviations.
"""

import jax
import numpy as np
import pytest
from flax import nnx
from scipy import stats

from models import Luong, Transformer
from models.convolutions import Conv
from models.recurrence import GRU, LSTM
from tests.models.seq2seq.test_initialization import OPTIONS
from tests.models.test_transformer_peers import to_torch
from tests.models.tiny import SIZES

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

WIDTH, HIDDEN, HEADS = 64, 128, 4
KEY = jax.random.key(0)


def same_distribution(one, other):
    """Two-sample Kolmogorov-Smirnov test at the level 0.001; the seeds are fixed."""
    return stats.ks_2samp(np.ravel(one), np.ravel(other)).pvalue > 1e-3


@pytest.fixture(scope="module")
def transformers():
    """Weights of `models.Transformer` and of `nn.Transformer`, keyed by PyTorch's names."""
    sizes = {
        "width": WIDTH,
        "hidden": HIDDEN,
        "heads": HEADS,
        "key_width": WIDTH // HEADS,
        "value_width": WIDTH // HEADS,
    }
    ours = nnx.state(Transformer(**SIZES | sizes, key=KEY))
    torch.manual_seed(0)
    theirs = torch.nn.Transformer(WIDTH, HEADS, 1, 1, HIDDEN, batch_first=True)
    theirs.encoder.norm = theirs.decoder.norm = None
    parameters = {name: p.detach().numpy() for name, p in theirs.named_parameters()}
    return to_torch(ours)[1], parameters


def test_transformer_weights_have_the_distribution_of_pytorch(transformers):
    """PyTorch stores the query, key and value matrices as one weight of 3D rows."""
    ours, theirs = transformers
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        if not name.endswith(("linear1.bias", "linear2.bias")):
            assert same_distribution(ours[name], expected), name


def test_separate_bounds_of_query_key_and_value_are_detected(transformers):
    """Separate Glorot bounds would make the three matrices larger by a factor of sqrt 2."""
    ours, theirs = transformers
    name = "encoder.layers.0.self_attn.in_proj_weight"
    assert not same_distribution(2**0.5 * ours[name], theirs[name])


def test_feed_forward_biases_start_at_zero(transformers):
    """Fairseq and Tensor2Tensor use zeros; `nn.Transformer` uses U(±1 / sqrt(fan-in))."""
    ours, theirs = transformers
    for name in theirs:
        if name.endswith(("linear1.bias", "linear2.bias")):
            assert not ours[name].any() and theirs[name].any()


def test_embeddings_are_scaled_by_the_width():
    """Embeddings are N(0, 1 / D), as in fairseq; `nn.Embedding` uses N(0, 1)."""
    ours = Transformer(**SIZES | {"vocabulary": 500, "width": WIDTH}, key=KEY).embedding.table[...]
    torch.manual_seed(0)
    theirs = torch.nn.Embedding(500, WIDTH).weight.detach().numpy()
    assert same_distribution(WIDTH**0.5 * np.asarray(ours), theirs)


def test_recurrent_translation_models_start_with_the_embeddings_of_pytorch():
    """Embeddings are N(0, 1). The output embedding is N(0, 1 / D); `nn.Linear` is U(±1 / sqrt(D)).

    An output embedding by Glorot, of deviation sqrt(2 / (V + D)), delays training by hundreds of
    steps: see results/seq2seq_multi30k.
    """
    options = OPTIONS | {"vocabulary": 500, "embedding": WIDTH, "hidden": WIDTH}
    model = Luong(**options, layers=1, input_feeding=True, initialization="glorot", key=KEY)
    torch.manual_seed(0)
    embedding, linear = torch.nn.Embedding(500, WIDTH), torch.nn.Linear(WIDTH, 500)
    for ours in (model.source_embedding, model.target_embedding):
        assert same_distribution(ours[...], embedding.weight.detach().numpy())
    ratio = np.std(model.output[...]) / np.std(linear.weight.detach().numpy())
    assert ratio == pytest.approx(3**0.5, rel=0.03)


@pytest.mark.parametrize("ours, theirs", [(LSTM, "LSTM"), (GRU, "GRU")])
def test_recurrent_weights_are_larger_by_sqrt_3(ours, theirs):
    """Input matrices are Glorot and recurrent matrices orthogonal; PyTorch uses U(±1 / sqrt(H)).

    Orthogonal recurrent matrices follow Bahdanau et al. 2015, app. B.1.
    """
    layer = nnx.to_pure_dict(nnx.state(ours(WIDTH, WIDTH, key=KEY)))
    torch.manual_seed(0)
    peer = getattr(torch.nn, theirs)(WIDTH, WIDTH)
    recurrent = np.concatenate(
        [layer[name] for name in ("recurrent", "gates", "candidate") if name in layer], axis=-1
    )
    for ours_x, theirs_x in ((layer["input"], peer.weight_ih_l0), (recurrent, peer.weight_hh_l0)):
        ratio = np.std(ours_x) / np.std(theirs_x.detach().numpy())
        assert ratio == pytest.approx(3**0.5, rel=0.03)
    assert same_distribution(layer["input"] / 3**0.5, peer.weight_ih_l0.detach().numpy())


def test_forget_gates_start_with_a_bias_of_one():
    """Jozefowicz et al. 2015, sec. 2.2; other biases start at zero. PyTorch's are uniform."""
    bias = np.asarray(LSTM(WIDTH, WIDTH, key=KEY).bias[...]).reshape(4, WIDTH)
    np.testing.assert_array_equal(bias, np.repeat([[0.0], [1.0], [0.0], [0.0]], WIDTH, axis=1))
    assert not np.asarray(GRU(WIDTH, WIDTH, key=KEY).bias[...]).any()


def test_convolution_kernels_are_larger_by_sqrt_3():
    """Kernels are Glorot, as in the authors' code; spectral normalization removes the scale."""
    kernel = Conv(WIDTH, WIDTH, key=KEY).kernel[...]
    torch.manual_seed(0)
    theirs = torch.nn.Conv2d(WIDTH, WIDTH, 3).weight.detach().numpy()
    assert np.std(kernel) / np.std(theirs) == pytest.approx(3**0.5, rel=0.02)
    assert same_distribution(np.asarray(kernel) / 3**0.5, theirs)
