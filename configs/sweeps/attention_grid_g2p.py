r"""Every score with every alignment, as `attention_grid`, on pronunciations.

No paper has this table; the nearest are the three alignments of Toshniwal & Livescu 2016, see
`g2p_toshniwal`. With a fifth of the steps of `seq2seq_g2p`, enough to rank them:

    python sweep.py --sweep=configs/sweeps/attention_grid_g2p.py --parallel=2 \
        --config.train.steps=1520

Sized for a laptop: a quarter of an hour a run on two CPU cores, 24 runs.
"""

from functools import partial

from configs.sweeps import attention_grid
from training.plots import metric_heatmap

METRICS = ("test/wer", "test/per")

runs = partial(attention_grid.runs, config="configs/seq2seq_g2p.py")
figure = partial(metric_heatmap, metric="test/wer", rows="score", columns="alignment")
