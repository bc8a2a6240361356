"""Captioned images, vocabulary and batches."""
