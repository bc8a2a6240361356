"""Image datasets, batches and augmentation."""
