"""Toshniwal & Livescu 2016, "Jointly Learning to Align and Convert Graphemes to Phonemes with Neural Attention Models"."""  # noqa: E501

# Error rates on the CMUdict split of 2007; results on other data are not comparable.
ROWS = {
    "table 1": {
        "global": {"cmudict_2007/per": 0.0504, "cmudict_2007/wer": 0.2169},
        "local-m": {"cmudict_2007/per": 0.0511, "cmudict_2007/wer": 0.2185},
        "local-p": {"cmudict_2007/per": 0.0539, "cmudict_2007/wer": 0.2283},
        "global, ensemble of 5": {
            "cmudict_2007/ensemble_per": 0.0469,
            "cmudict_2007/ensemble_wer": 0.2024,
        },
    },
}
