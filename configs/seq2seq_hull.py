"""LSTM encoder-decoder with attention on convex hulls of 50 points, a baseline of pointer networks.

Paper: Vinyals et al. 2015, "Pointer Networks", table 1: accuracy 38.9% and area 99.7% with
attention; without attention (`--config.model.attends=False`) 1.9% for 50 points, 29.9% for 10
and 87.7% for 5.

    python train.py --config=configs/seq2seq_hull.py --workdir=runs/seq2seq_hull

The output layer is a softmax over 50 indices and the end token. For another number of points, set
`data.sizes` and `evaluation.sizes`; configs/sweeps/ptrnet_tables.py has all rows.

Sized for a GPU: not run to its end here. Deviations from the paper: see configs/ptrnet_hull.py.
"""

from ml_collections import ConfigDict

from configs import ptrnet_hull
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    config = ptrnet_hull.get_config(variant)
    config.name = "seq2seq_hull"
    config.rows = ("vinyals2015/table 1/LSTM with attention, n = 50",)
    config.paper = printed(config.rows)
    sizes = {"hidden": config.model.hidden, "width": config.model.width}
    config.model = {"kind": "seq2seq", "init_limit": 0.0, "attends": True, **sizes}
    config.data.sizes = (50, 50)
    config.evaluation.sizes = (50,)
    return config
