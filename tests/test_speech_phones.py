# ruff: noqa: RUF001  (phonetic symbols are meant)
import importlib.util

import pytest

from vivavoce.speech import phones, texts


@pytest.mark.parametrize(
    ("phone", "classes"),
    [
        ("ˈoʊ", ("o", "u")),
        ("aɪə", ("a", "i", "uh")),
        ("iː", ("i",)),
        ("tʃ", ("sh",)),
        ("dʒ", ("sh",)),
        ("ts", ("t", "s")),
        ("pʰ", ("p",)),
        ("əl", ("uh", "l")),
        ("ɜː", ("r",)),
        ("ɑ̃", ("a",)),
        ("ʲ", ()),
        ("", ()),
    ],
)
def test_ipa(phone, classes):
    assert phones.from_ipa(phone) == classes


@pytest.mark.parametrize(
    ("phone", "classes"), [("AW1", ("a", "u")), ("ch", ("sh",)), ("pau", ("sil",)), ("+SPN+", ("sil",)), ("m", ("m",))]
)
def test_arpabet(phone, classes):
    assert phones.from_arpabet(phone) == classes


def test_arpabet_refuses_what_it_does_not_know():
    with pytest.raises(KeyError):
        phones.from_arpabet("QQ")


def test_every_class_belongs_to_exactly_one_group():
    listed = [name for names in phones.GROUPS.values() for name in names]
    assert sorted(listed) == sorted(phones.CLASSES)
    assert [phones.GROUP_NAMES[phones.GROUP_OF[phones.INDEX[name]]] for name in "mpb"] == ["closed"] * 3


def test_unknown_symbols_are_named():
    assert phones.unmapped("aːʘ") == "ʘ"


@pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="needs espeak-ng")
@pytest.mark.parametrize("language", sorted(texts.SENTENCES))
def test_every_phone_espeak_says_in_our_texts_is_mapped(language):
    from vivavoce.speech.synthesis import espeak

    for sentence in texts.SENTENCES[language]:
        for _, phone in espeak().phones(sentence, language)[1]:
            assert phones.unmapped(phone) == ""
