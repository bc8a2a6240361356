"""Few-shot image classification."""

from tasks.few_shot.task import FewShotTask, build

__all__ = ["FewShotTask", "build"]
