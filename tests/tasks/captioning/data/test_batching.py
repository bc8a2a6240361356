"""Batches of captions: each caption once per epoch, grouped by length, equal after a resume."""

import numpy as np
import pytest

from tasks.captioning.data.batching import CaptionBatches, check_lengths, evaluation_batches
from training.errors import UserError


def captions(lengths, width=6):
    """Captions whose tokens are 10 times the image number plus the caption number."""
    tokens = np.zeros((len(lengths), 2, width), np.int32)
    for n, several in enumerate(lengths):
        for k, length in enumerate(several):
            tokens[n, k, :length] = 10 * (n + 1) + k
    return tokens


LENGTHS = [(2, 5), (3, 0), (4, 4), (2, 3), (6, 3)]
INPUTS = np.arange(5)


def create(size=2, lengths=(3, 5), seed=0):
    return CaptionBatches(INPUTS, captions(LENGTHS), size=size, lengths=lengths, seed=seed)


def test_batches_have_one_length_and_the_images_of_their_captions():
    batches = create()
    assert batches.per_epoch == 3  # 5 captions of at most 3 words and 3 of 4 or 5: 2 + 1 batches
    for i in range(2 * batches.per_epoch):
        batch = batches[i]
        counts = (batch["caption"] != 0).sum(-1)
        assert batch["caption"].shape[1] in (3, 5)
        assert (counts <= batch["caption"].shape[1]).all()
        assert (counts > (0 if batch["caption"].shape[1] == 3 else 3)).all()
        np.testing.assert_array_equal(batch["caption"][:, 0] // 10 - 1, batch["image"])


def test_an_epoch_has_each_caption_at_most_once():
    batches = create()
    seen = [x for i in range(batches.per_epoch) for x in batches[i]["caption"][:, 0]]
    assert len(seen) == len(set(seen)) == 2 * batches.per_epoch
    assert 50 not in seen  # six words, longer than every length


def test_batches_depend_on_seed_and_number_only():
    first, second, other = create(), create(), create(seed=1)
    for i in (7, 0, 2):
        np.testing.assert_array_equal(first[i]["caption"], second[i]["caption"])
    assert any(
        first[i]["caption"].shape != other[i]["caption"].shape
        or (first[i]["caption"] != other[i]["caption"]).any()
        for i in range(3)
    )
    epochs = [[int(first[i]["image"].sum()) for i in range(n, n + 3)] for n in (0, 3, 6)]
    assert epochs[0] != epochs[1] or epochs[1] != epochs[2]


def test_batch_larger_than_every_group_is_rejected():
    with pytest.raises(UserError, match=r"has batching.size=6 training captions \(all together"):
        create(size=6)
    with pytest.raises(UserError, match=r"\(1,\) has .*\(all together have 0\): choose longer len"):
        create(size=1, lengths=(1,))


@pytest.mark.parametrize("lengths", [(), (5, 3), (4, 4)])
def test_lengths_must_ascend(lengths):
    with pytest.raises(UserError, match="must be different lengths in ascending order"):
        check_lengths(lengths)
    check_lengths((3, 5))


def test_evaluation_batches_have_every_number():
    batches = list(evaluation_batches(5, 2))
    assert [x.tolist() for x in batches] == [[0, 1], [2, 3], [4, 4]]
