"""Few-shot image classification."""

from tasks.few_shot.task import FewShotClassification, build

__all__ = ["FewShotClassification", "build"]
