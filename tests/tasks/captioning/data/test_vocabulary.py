"""Word vocabulary of captions."""

import numpy as np
import pytest

from tasks.captioning.data.vocabulary import WordVocabulary
from tasks.vocabulary import BOS, EOS, PAD, SPECIAL, UNK
from training.errors import UserError

CAPTIONS = [("a b b", "c b a d"), ("a e", "a <s>")]  # a: 4, b: 3, the others: 1


def test_most_frequent_words_are_kept():
    vocabulary = WordVocabulary.train(CAPTIONS, size=7)
    assert vocabulary.words == (*SPECIAL, "a", "b", "c")  # c is the first of equal frequency
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    assert WordVocabulary.train(CAPTIONS[::-1], size=7).words == vocabulary.words
    assert len(WordVocabulary.train(CAPTIONS, size=100)) == 9


def test_decode_inverts_encode_for_known_words():
    vocabulary = WordVocabulary.train(CAPTIONS, size=9)
    tokens = vocabulary.encode_captions(CAPTIONS)
    assert tokens.shape == (2, 2, 5)
    assert vocabulary.decode(tokens[0]) == ["a b b", "c b a d"]
    assert vocabulary.decode(tokens[1]) == ["a e", "a <unk>"]  # no special ids from text
    np.testing.assert_array_equal(tokens[1, 0], [4, vocabulary.encode("e")[0], EOS, PAD, PAD])
    assert vocabulary.decode([[BOS, PAD, 4, EOS, 5], [EOS], []]) == ["a", "", ""]


def test_missing_captions_are_padding():
    tokens = WordVocabulary(["a"]).encode_captions([("a", "a z"), ("",)])
    np.testing.assert_array_equal(tokens, [[[4, EOS, 0], [4, UNK, EOS]], [[EOS, 0, 0], [0, 0, 0]]])


def test_vocabulary_of_a_run_is_made_once(tmp_path):
    vocabulary = WordVocabulary.load_or_train(tmp_path, lambda: CAPTIONS, 7)
    assert WordVocabulary.load_or_train(tmp_path, lambda: [("x y",)], 100).words == vocabulary.words
    [path] = tmp_path.iterdir()
    path.write_text("\n".join([*SPECIAL, "a", "a"]))
    with pytest.raises(UserError, match=f"vocabulary {path} is missing or damaged: restore"):
        WordVocabulary.load_or_train(tmp_path, lambda: CAPTIONS, 7)


def test_vocabulary_is_not_made_for_other_initial_weights(tmp_path):
    with pytest.raises(UserError, match=r"init_from=w.safetensors needs .*: copy vocabulary.txt"):
        WordVocabulary.load_or_train(tmp_path, lambda: CAPTIONS, 7, "w.safetensors")
    WordVocabulary(["a"]).save(tmp_path / "vocabulary.txt")
    assert WordVocabulary.load_or_train(tmp_path, lambda: CAPTIONS, 7, "w").words[-1] == "a"


def test_vocabulary_is_not_replaced_beside_checkpoints(tmp_path):
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    with pytest.raises(UserError, match="missing or damaged"):
        WordVocabulary.load_or_train(tmp_path, lambda: CAPTIONS, 7)


@pytest.mark.parametrize(
    "captions, size, message",
    [(CAPTIONS, 4, "vocabulary_size=4 must be larger than 4"), ([("",)], 9, "contains no words")],
)
def test_vocabulary_without_words_is_an_error(captions, size, message):
    with pytest.raises(UserError, match=message):
        WordVocabulary.train(captions, size)


def test_ids_beyond_the_vocabulary_are_unknown():
    vocabulary = WordVocabulary(["a"])
    assert vocabulary.decode([[4, 5, 2, 4]]) == ["a <unk>"]
