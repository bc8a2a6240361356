"""Tests of `tasks.image_generation.torch_weights`."""

import pickle

import numpy as np
import pytest

from tasks.image_generation.torch_weights import read_state_dict
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


class Executable:
    def __reduce__(self):
        return print, ("executed",)


def test_code_in_a_file_is_not_executed(tmp_path, capsys):
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps(Executable()))
    with pytest.raises(UserError, match=r"not a state dict.*builtins\.print"):
        read_state_dict(path)
    assert capsys.readouterr().out == ""
