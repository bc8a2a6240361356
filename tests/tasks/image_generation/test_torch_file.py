"""Files of weights are read as PyTorch would, and nothing in them is run."""

import pickle

import numpy as np
import pytest

from tasks.image_generation import features, torch_file
from training.errors import UserError


@pytest.mark.peers
@pytest.mark.parametrize("zipped", [True, False])
def test_arrays_come_back_as_they_were_saved(zipped, tmp_path):
    import torch

    base = torch.arange(24, dtype=torch.float32)
    saved = {
        "plain": torch.randn(3, 4),
        "view": base[2:14].view(3, 4).t(),
        "other": base[20:],
        "count": torch.tensor(7),
    }
    path = tmp_path / "x.pth"
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    found = torch_file.read(path)
    assert found.keys() == saved.keys()
    for name, x in saved.items():
        np.testing.assert_array_equal(found[name], x.numpy())


class Bad:
    def __reduce__(self):
        return print, ("run",)


def test_what_would_be_run_is_refused(tmp_path, capsys):
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps(Bad()))
    with pytest.raises(UserError, match=r"no file of weights.*builtins\.print"):
        torch_file.read(path)
    assert capsys.readouterr().out == ""


def test_weights_of_inception_must_be_the_standard_ones(tmp_path):
    with pytest.raises(UserError, match="is not there: get pt_inception-2015-12-05-6726825d.pth"):
        features.pretrained(str(tmp_path / "none.pth"))
    (tmp_path / "other.pth").write_bytes(b"other")
    with pytest.raises(UserError, match="its SHA-256 begins with d9298a10: get it from"):
        features.pretrained(str(tmp_path / "other.pth"))
