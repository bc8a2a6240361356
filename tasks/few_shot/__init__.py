"""Few-shot image classification."""

from tasks.few_shot.task import FewShotClassification, build, build_abstract

__all__ = ["FewShotClassification", "build", "build_abstract"]
