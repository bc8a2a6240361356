"""Tests of `tasks.image_generation.feature_extractors`."""

import pytest

from tasks.image_generation.feature_extractors import load_inception
from training.errors import UserError


def test_only_the_standard_inception_weights_are_accepted(tmp_path):
    name = "pt_inception-2015-12-05-6726825d.pth"
    with pytest.raises(UserError, match=f"does not exist: download {name}"):
        load_inception(str(tmp_path / "none.pth"))
    (tmp_path / "other.pth").write_bytes(b"other")
    with pytest.raises(UserError, match="its SHA-256 begins with d9298a10: download it from"):
        load_inception(str(tmp_path / "other.pth"))
