r"""Soft and hard attention on Flickr8k and COCO: Table 1 of Xu et al. 2015.

    python sweep.py --sweep=configs/sweeps/captioning_photos.py --config.data.dir=DIR \
        --config.data.vgg_weights=FILE

DIR contains the files of both datasets, FILE the weights of VGG: see
configs/captioning_flickr8k.py and configs/captioning_coco.py.

Sized for one GPU: 4 runs; the paper's run on COCO took three days. Not yet trained.
"""

from functools import partial

from configs.papers import printed
from training.plots import metric_bars
from training.sweeps import Run

METRICS = tuple(f"test/bleu_{n}" for n in (1, 2, 3, 4))
DATASETS = {"Flickr8k": "flickr8k", "COCO": "coco"}
TASKS = {"soft": "captioning", "hard": "captioning.hard_attention"}


def runs():
    for dataset, config in DATASETS.items():
        for alignment, task in TASKS.items():
            rows = (f"xu2015/table 1/{dataset}, {alignment}",)
            yield Run(
                config=f"configs/captioning_{config}.py",
                labels={"dataset": dataset, "attention": alignment},
                overrides={"task": task, "model.attention.alignment": alignment},
                rows=rows,
                paper=printed(rows),
            )


figure = partial(metric_bars, metrics=METRICS)
