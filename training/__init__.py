"""What every run needs and no paper is about: the loop, state, meshes, checkpoints, metrics."""
