"""SNAIL (Mishra et al. 2018) for reinforcement learning and few-shot classification."""

from models.snail.few_shot import FewShotClassifier
from models.snail.network import SNAIL

__all__ = ["SNAIL", "FewShotClassifier"]
