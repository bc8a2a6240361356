r"""Grapheme-to-phoneme conversion at the size of Toshniwal & Livescu.

Paper: Toshniwal & Livescu 2016 (Toshniwal et al. 2016), "Jointly Learning to Align and Convert
Graphemes to Phonemes with Neural Attention Models", table 1, one model with global attention: PER
0.0504, WER 0.2169 on the CMUdict split of 2007; ensemble of 5: PER 0.0469, WER 0.2024. No
printed row: the default data, if `data.dir` is empty, is the current CMUdict, which is harder (see
configs/seq2seq_g2p.py). The runs of configs/sweeps/g2p_toshniwal_ensemble.py name the rows.

    python train.py --config=configs/seq2seq_g2p_toshniwal.py --config.data.dir=DIRECTORY

The ensemble, from the runs of configs/sweeps/g2p_toshniwal_ensemble.py:

    python eval.py --workdir=SWEEP/soft-0 --workdir=SWEEP/soft-1 --workdir=SWEEP/soft-2 \
        --workdir=SWEEP/soft-3 --workdir=SWEEP/soft-4

Model of the paper: 3 layers of width 512, bidirectional LSTM encoder, dropout 0.2, greedy decoding.
Deviations: batches of about 210 words instead of 256; the learning rate follows a cosine instead of
decreasing by 0.8 when the training loss rises; the encoder has 256 units per direction; and results
are those of the last step, where the paper selects a step by the WER on dev.

Sized for the paper: 100 epochs on one accelerator. Not yet trained.
"""

from ml_collections import ConfigDict

from configs import seq2seq_g2p


def get_config(variant: str = "") -> ConfigDict:
    """Return the config; 'smoke' is the smoke variant of the small model."""
    config = seq2seq_g2p.get_config(variant)
    config.name = "seq2seq_g2p_toshniwal"
    config.rows, config.paper = (), {}
    config.label_smoothing = 0.0
    config.optimizer.update(learning_rate=1e-3, clip=5.0)
    config.cpu_devices = 1
    if variant == "smoke":
        return config

    config.model.update(embedding=512, hidden=512, layers=3)
    config.model.encoder.update(layers=3, width=512)
    config.model.attention.update(width=512)
    config.batching.tokens = 256 * 8
    config.decode.width = 1
    config.train.update(  # 550 updates are an epoch of the current CMUdict
        steps=55_000, log_every=100, eval_every=550, checkpoint_every=550, keep=2, average=1
    )
    return config
