"""Five algorithmic memory tasks of Graves et al. 2014."""

from tasks.memory.task import MemoryTask, build

__all__ = ["MemoryTask", "build"]
