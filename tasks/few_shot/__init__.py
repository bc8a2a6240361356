"""Few-shot image classification."""

from typing import Any

from tasks.few_shot.task import FewShotClassification, build, build_abstract

__all__ = ["FewShotClassification", "build", "build_abstract", "complete_config"]


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """Add the rematerialization policy, which earlier runs did not have."""
    return config | {"model": {"remat": "none"} | config["model"]}
