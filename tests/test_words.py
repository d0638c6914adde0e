import numpy as np
import pytest

from vivavoce.emotion.labels import EMOTIONS
from vivavoce.emotion.text import STRONGEST, Feeling, Table, feeling, read
from vivavoce.emotion.words import ORDINARY, entries
from vivavoce.errors import InputError
from vivavoce.recipes.words import lesson, table

# Not in the list that the table learned from: other forms, spellings and sets of words.
PHRASES = {
    "slightly annoyed": "anger", "very happy": "happiness", "not happy": "sadness", "not sad": "happiness",
    "bitter smile": "happiness", "gloominess": "sadness", "joyfulness": "happiness", "a bit worried": "fear",
    "anoyed": "anger", "extremely surprised": "surprise", "terrifyed": "fear", "depressive mood": "sadness",
    "really disgustingly sick": "disgust", "someone who is not amused": "sadness", "full of hatred and scorn": "anger",
    "no longer happy": "sadness", "she is cheerfully laughing": "happiness", "deeply sorrowing": "sadness",
    "scornfully mocking": "contempt", "frightfully": "fear", "mildly surprised face": "surprise",
    "a touch of melancholia": "sadness", "hatefully angry": "anger", "isn't angry, just sad": "sadness",
}  # fmt: skip


def label(text: str) -> str:
    found = read(text, Table.pretrained())
    if found is None:
        return ""
    return EMOTIONS[int(np.argmax(found.mix))]


def test_phrases_that_were_never_learned():
    assert not PHRASES.keys() & entries().keys()
    right = [text for text, expected in PHRASES.items() if label(text) == expected]
    assert len(right) >= 0.85 * len(PHRASES)


def test_every_word_of_the_list_means_what_it_says():
    wrong = [word for word, (mix, strength) in entries().items() if not _as_told(word, mix, strength)]
    assert len(entries()) >= 500
    assert not wrong


def _as_told(word: str, mix: dict[str, float], strength: float) -> bool:
    found = feeling(word)
    assert found is not None
    told = np.array([mix.get(label, 0.0) for label in EMOTIONS])
    exact = word in EMOTIONS
    return np.abs(np.array(found.mix) - told).max() < 0.15 and (exact or abs(found.strength - strength) < 0.15)


def test_labels_are_taken_as_they_are():
    for index, name in enumerate(EMOTIONS):
        assert feeling(name.upper()) == Feeling(tuple(float(k == index) for k in range(8)), 1.0)
    assert feeling(None) is None
    assert feeling("none") is None
    given = Feeling((1.0, *(0.0,) * 7), 0.5)
    assert feeling(given) is given


@pytest.mark.parametrize("word", ["annoyed", "happy", "afraid", "sad", "surprised", "contemptuous"])
def test_amounts_are_in_order(word):
    said = [f"faintly {word}", f"slightly {word}", word, f"very {word}", f"extremely {word}"]
    strengths = [found.strength for found in map(feeling, said) if found]
    assert strengths == sorted(strengths)
    assert strengths[0] < strengths[2] < strengths[-1] <= STRONGEST


def test_what_is_denied_is_not_shown():
    happiness, sadness, neutral = (EMOTIONS.index(name) for name in ("happiness", "sadness", "neutral"))
    for text in ("happy, not sad", "not sad but happy", "happy without sorrow"):
        found = feeling(text)
        assert found is not None
        assert found.mix[happiness] > 0.9
        assert found.mix[sadness] == 0
    both = feeling("neither happy nor sad")
    assert both is not None
    assert both.mix[neutral] > 0.9
    assert label("unafraid") == "neutral"


@pytest.mark.parametrize("text", ["", "hunger", "the table in the kitchen", "xqzt", "12345", "very", "not", "..."])
def test_text_without_a_feeling_is_refused(text):
    with pytest.raises(InputError, match="there is no emotion that is understood in"):
        feeling(text)


def test_ordinary_words_tell_nothing():
    assert all(read(word, Table.pretrained()) is None for word in ORDINARY)


def test_the_table_that_ships_is_what_the_recipe_makes():
    made = table(*lesson())
    assert np.abs(made - Table.pretrained().weight).max() < 2e-3


@pytest.mark.parametrize(
    ("said", "most", "base"),
    [
        ("angrier", "angriest", "angry"), ("happier", "happiest", "happy"), ("sadder", "saddest", "sad"),
        ("calmer", "calmest", "calm"), ("unhappier", "unhappiest", "unhappy"),
    ],
)  # fmt: skip
def test_what_is_compared_is_more_of_the_same(said, most, base):
    plain, more, topmost, little = (feeling(text) for text in (base, said, most, f"a little {said}"))
    assert plain
    assert more
    assert topmost
    assert little
    assert plain.mix == more.mix == topmost.mix == little.mix
    assert plain.strength < little.strength < more.strength < topmost.strength
    assert more == feeling(f"more {base}")
    assert topmost == feeling(f"most {base}")


@pytest.mark.parametrize("emotion", ["sad", "angry", "happy", "afraid"])
def test_less_of_a_feeling_is_still_that_feeling(emotion):
    said = ("not nearly as", "much less", "less", "a little less", "")
    found = [feeling(f"{amount} {emotion}") for amount in said]
    strengths = [one.strength for one in found if one]
    assert strengths == sorted(set(strengths))
    assert len({one.mix for one in found if one}) == 1
    for said in ("not so", "not as", "not that", "not quite so"):
        assert (one := feeling(f"{said} {emotion}")) is not None
        assert one.mix == (found[-1] and found[-1].mix)
        assert one.strength < strengths[-1]


def test_words_that_only_end_like_comparisons_keep_their_meaning():
    assert feeling("bitter") == feeling("bitter,")
    for word in ("danger", "forest", "dinner", "winter"):
        with pytest.raises(InputError, match="no emotion"):
            feeling(word)
    denied, asked = feeling("not very sad"), feeling("sad")
    assert denied
    assert asked
    assert denied.mix != asked.mix
