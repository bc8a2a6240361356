"""Tests of `tasks.torch_weights`."""

import pickle
from collections import OrderedDict

import numpy as np
import pytest

from tasks.torch_weights import read_state_dict
from training.errors import UserError


@pytest.mark.peers
@pytest.mark.parametrize("zipped", [True, False])
def test_arrays_equal_arrays_saved_by_pytorch(zipped, tmp_path):
    import torch

    base = torch.arange(24, dtype=torch.float32)
    saved = {
        "contiguous": torch.randn(3, 4),
        "view": base[2:14].view(3, 4).t(),
        "offset": base[20:],
        "scalar": torch.tensor(7),
    }
    path = tmp_path / "x.pth"
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    actual = read_state_dict(path)
    assert actual.keys() == saved.keys()
    for name, x in saved.items():
        np.testing.assert_array_equal(actual[name], x.numpy())


@pytest.mark.peers
@pytest.mark.parametrize("data_in_state", [True, False])
def test_parameters_saved_before_version_0_4_are_read(data_in_state, tmp_path):
    """Torchvision's VGG-19 was saved in 2017, as `Parameter`s of `_rebuild_tensor`."""
    import torch

    class OldTensor:
        def __reduce__(self):
            tensor = torch.arange(6, dtype=torch.float32).view(2, 3)
            _, (storage, offset, shape, strides, *_) = tensor.__reduce_ex__(2)
            return torch._utils._rebuild_tensor, (storage, offset, shape, strides)

    class OldParameter:
        def __reduce__(self):
            if data_in_state:
                return torch.nn.Parameter, (), (OldTensor(), None, OrderedDict(), True, False)
            return torch.nn.Parameter, (OldTensor(),), (True, False, OrderedDict())

    path = tmp_path / "x.pth"
    saved = OrderedDict(weight=OldParameter(), bias=OldTensor())
    torch.save(saved, path, _use_new_zipfile_serialization=False)
    expected, actual = torch.load(path), read_state_dict(path)
    assert isinstance(expected["weight"], torch.nn.Parameter)
    assert actual.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(actual[name], x.detach().numpy())


class Executable:
    def __reduce__(self):
        return print, ("executed",)


def test_code_in_a_file_is_not_executed(tmp_path, capsys):
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps(Executable()))
    with pytest.raises(UserError, match=r"not a state dict.*builtins\.print"):
        read_state_dict(path)
    assert capsys.readouterr().out == ""
