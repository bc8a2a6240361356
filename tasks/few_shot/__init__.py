"""Few-shot image classification."""

from typing import Any

from tasks.few_shot.task import FewShotClassification, build, build_abstract

__all__ = ["FewShotClassification", "build", "build_abstract", "complete_config"]


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """Add the rematerialization policy, the latest key of the model section."""
    return config | {"model": {"remat": "none"} | config["model"]}
