"""GRU encoder-decoder with attention on Multi30k English-German, text only.

Paper: Caglayan et al. 2017, "LIUM-CVC Submissions for WMT17 Multimodal Translation Task", text-only
baseline on test2016: BLEU 38.1 of tokenized, lowercased text (`test/bleu_tok_lc`), mean of several
seeds with a standard deviation of 0.8.

    python train.py --config=configs/seq2seq_caglayan_multi30k.py --config.data.dir=DIRECTORY

`data.dir` contains train.en, train.de, val.*, test_2016_flickr.* (also .gz). If it is empty, the
corpus is downloaded. The model has the paper's kind of layers: a bidirectional GRU encoder, the
additive score, a GRU decoder, joint BPE of 10,000 tokens, and Adam with a rate of 4e-4. Deviations:
RNNsearch's decoder with one GRU instead of the conditional GRU with two, a maxout layer before the
softmax, one rate of dropout, untied target embeddings, and batches of 20 sentences on average
instead of 32: 8 to 32, by length.

Expected: `test/bleu_tok_lc` of 37.1, with the initial embeddings of earlier code:
results/seq2seq_caglayan_multi30k.

Sized for a laptop: 1 hour 38 minutes on one CPU core.
"""

from ml_collections import ConfigDict

from configs import seq2seq_multi30k
from configs.papers import printed


def get_config(variant: str = "") -> ConfigDict:
    """Return the config; 'smoke' is a tiny model for four steps."""
    config = seq2seq_multi30k.get_config(variant)
    config.name = "seq2seq_caglayan_multi30k"
    config.rows = ("caglayan2017/table 1/text-only GRU with attention, test2016",)
    config.paper = printed(config.rows)
    config.architecture = "rnnsearch"
    config.vocabulary.lowercase = True
    with config.unlocked():
        del config.model["layers"], config.model["input_feeding"]
        config.model.maxout = 8
        del config.optimizer["steps"]
    config.model.encoder.update(kind="gru", layers=1)
    config.model.attention.score = "additive"
    config.label_smoothing = 0.0
    config.optimizer.update(schedule="constant", learning_rate=4e-4, warmup_steps=0, clip=1.0)
    config.metrics = ("bleu_tok_lc", "perplexity", "truncated")  # text is lowercased
    config.train.best = "dev/bleu_tok_lc"
    if variant == "smoke":
        return config

    config.vocabulary.size = 10_000
    config.model.update(embedding=128, hidden=256, maxout=128)
    config.model.encoder.update(width=512)
    config.batching.tokens = 32 * 14
    config.decode.width = 12
    config.train.update(steps=30_000, log_every=100, eval_every=900, checkpoint_every=300)
    return config
