"""Parallel text: corpora, vocabularies, and batches of token sequences."""
