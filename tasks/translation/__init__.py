"""Sequence-to-sequence tasks on text: machine translation and grapheme-to-phoneme conversion."""

from tasks.translation.task import Translation, build, build_abstract

__all__ = ["Translation", "build", "build_abstract"]
