"""Small datasets in the form of Karpathy's files."""

import json

import numpy as np
from PIL import Image

from tasks.captioning.data import karpathy

CAPTIONS = ["a dog runs", "a brown dog", "the dog is on grass", "grass", "a dog"]


def write_dataset(directory, name="flickr8k", splits=("train",) * 6 + ("val",) * 2 + ("test",) * 3):
    """Write noise images with five captions each, and `dataset_NAME.json`; return the directory."""
    rng = np.random.default_rng(0)
    images = []
    for n, split in enumerate(splits):
        folder = karpathy.ARCHIVES[name].folder or ("train2014", "val2014")[n % 2]
        image = {"imgid": n, "split": split, "filename": f"{n:03d}.png"}
        image |= {} if karpathy.ARCHIVES[name].folder else {"filepath": folder}
        image["sentences"] = [
            {"tokens": f"{caption} {n}".split(), "raw": f"{caption.capitalize()} {n}."}
            for caption in CAPTIONS
        ]
        images.append(image)
        path = directory / folder / image["filename"]
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (3, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((40, 30), Image.Resampling.BICUBIC).save(path)
    content = {"dataset": name, "images": images}
    (directory / f"dataset_{name}.json").write_text(json.dumps(content))
    return directory
