"""VGG-19 against PyTorch, with weights that PyTorch has saved in the layout of torchvision."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import vgg
from tasks.torch_weights import WeightFile

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers


def torch_vgg19():
    """Layers of torchvision's `vgg19().features` up to `conv5_4` and its ReLU."""
    layers, inputs = [], 3
    for repeats, outputs in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
        for _ in range(repeats):
            layers += [torch.nn.Conv2d(inputs, outputs, 3, padding=1), torch.nn.ReLU()]
            inputs = outputs
        layers.append(torch.nn.MaxPool2d(2, 2))
    return torch.nn.Sequential(*layers[:-1])


@torch.no_grad()
def test_annotations_equal_pytorch(tmp_path):
    torch.manual_seed(0)
    features = torch_vgg19()
    for layer in features:
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            torch.nn.init.normal_(layer.bias)
    module = torch.nn.Module()
    module.features, module.classifier = features, torch.nn.Sequential(torch.nn.Linear(4, 2))
    path = tmp_path / "vgg.pth"
    torch.save(module.state_dict(), path)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    mean, deviation = (torch.tensor(x)[:, None, None] for x in (vgg.MEAN, vgg.DEVIATION))
    pixels = torch.tensor(images).permute(0, 3, 1, 2) / 255
    expected = features((pixels - mean) / deviation).permute(0, 2, 3, 1).numpy()

    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    weights = WeightFile(path.name, sha256, "https://example.org").read(str(path), "key")
    model = vgg.VGG19({name: jnp.asarray(weights[name]) for name in vgg.weight_shapes()})
    actual = jax.jit(lambda images: model(vgg.normalize(images)))(images)
    assert actual.shape == (2, 4, 4, 512)
    assert expected.max() > 1 and (expected == 0).mean() > 0.2
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * expected.max())
