"""Reads, makes, downloads, tokenises and batches data."""
