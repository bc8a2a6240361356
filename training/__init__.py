"""Task-independent training code: loop, state, meshes, checkpoints, optimizers, metrics, sweeps."""
