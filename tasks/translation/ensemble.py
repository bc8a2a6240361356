"""Translation with the mean of the probabilities of several trained models."""

import copy
from collections.abc import Sequence
from typing import Any

from flax import nnx

from models.ensemble import Ensemble
from training.errors import UserError


def join(task: Any, state: Any, others: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return a copy of a task whose model is an ensemble, and its state.

    Args:
        task: translation task whose data, metrics and decoding options are used.
        state: its state.
        others: further translation tasks, of any architecture and size, and their states.

    Raises:
        UserError: if the vocabularies or the maximum lengths differ.
    """
    for other, _ in others:
        for name, ours, theirs in (
            ("vocabularies", task.vocabulary.fingerprint, other.vocabulary.fingerprint),
            ("lengths in the last of batching.buckets", task.longest, other.longest),
        ):
            if ours != theirs:
                raise UserError(
                    f"{task.workdir} and {other.workdir} have different {name}: an ensemble needs "
                    "runs with the same."
                )
    runs = ((task, state), *others)
    model = Ensemble([nnx.merge(member.graphdef, x.params) for member, x in runs])
    joined = copy.copy(task)
    joined.graphdef, params = nnx.split(model)
    joined.decoder = task.decoder.replace_model(joined.graphdef)
    joined.replaces_unknown = task.replaces_unknown and model.has_alignment
    return joined, state._replace(params=params)
