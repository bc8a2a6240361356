r"""Every score with four alignments on grapheme-to-phoneme conversion; see `attention_grid`.

No printed row: no paper has this table. Toshniwal & Livescu 2016 compare three of the alignments;
see `g2p_toshniwal`. A small part of the steps of `seq2seq_g2p` suffices to rank the combinations:

    python sweep.py --sweep=configs/sweeps/attention_grid_g2p.py --parallel=2 \
        --config.train.steps=1500 --config.cpu_devices=1

Sized for a laptop: 24 runs of a quarter of an hour on one CPU core.
"""

from functools import partial

from configs.sweeps import attention_grid
from training.plots import metric_heatmap

METRICS = ("test/wer", "test/per")

runs = partial(attention_grid.runs, config="configs/seq2seq_g2p.py")
figure = partial(metric_heatmap, metric="test/wer", rows="score", columns="alignment")
