import pytest

from vivavoce.emotion.labels import EMOTIONS, LABELS, label_in, probabilities
from vivavoce.errors import InputError


def test_probabilities_are_one_at_the_label():
    for index, label in enumerate(EMOTIONS):
        given = probabilities(label.upper())
        assert given is not None
        assert given.argmax() == index
        assert given.sum() == 1


def test_nothing_asked_for():
    assert probabilities(None) is None
    assert probabilities("none") is None
    assert len(LABELS) == 9


def test_an_unknown_emotion_names_those_that_exist():
    with pytest.raises(InputError, match=r"no emotion 'angr'; there are anger, contempt.*, none"):
        probabilities("angr")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("mead_M003_level_1_disgusted_015", "disgust"),
        ("st_vscodehappy_clip1", "happiness"),
        ("eamm_sad", "sadness"),
        ("the ambassador", None),
        ("first furious, then surprised", "anger"),
        ("grid_s1_bbaf2n", None),
    ],
)
def test_labels_in_file_names(text, label):
    assert label_in(text) == label
