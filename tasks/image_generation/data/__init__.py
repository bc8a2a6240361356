"""Image datasets and augmentation."""
