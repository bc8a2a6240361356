"""Small tasks for tests."""

import numpy as np

from training.state import TrainState

UNUSED_STATE = TrainState(None, None, None)


def small_config(module, **data):
    """Smoke variant that can fit a few instances: 32 units, a constant learning rate."""
    config = module.get_config("smoke")
    config.model.update(hidden=32, width=32)
    config.batch = 8
    config.optimizer.update(schedule="constant", steps=None, warmup_steps=0, learning_rate=1e-2)
    config.data.update(data)
    return config


def padded_solutions(task, points, size, length):
    """Solve instances and pad the solutions with `size` to `length` choices."""
    choices = np.full((len(points), length), size, np.int32)
    for row, solution in zip(choices, task.solve(points), strict=True):
        row[: len(solution)] = solution
    return choices


def predict_references(task):
    """Make the task predict the reference solutions."""
    length = lambda n: task.problem_type((n, n)).length

    def predict(state, points, constrained=True):
        del state, constrained
        n = points.shape[1]
        return padded_solutions(task, points, n, length(n))

    task.predict = predict
