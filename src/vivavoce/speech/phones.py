# ruff: noqa: RUF001  (phonetic symbols are meant)
"""A small set of phone classes shared by all languages, chosen for what can be told apart by ear *and* by eye.

Maps the two notations labels come in: IPA symbols (espeak-ng) and ARPAbet (flite, pocketsphinx).
"""

from __future__ import annotations

CLASSES = (
    *("sil", "i", "e", "ae", "a", "uh", "o", "u", "y", "m", "p", "b", "f", "v", "w"),
    *("n", "ng", "t", "d", "k", "g", "s", "z", "sh", "th", "l", "r", "j", "h"),
)
INDEX = {name: index for index, name in enumerate(CLASSES)}
SILENCE = INDEX["sil"]

# Classes that look alike on the lips share a group.
GROUPS = {
    "silence": ("sil",),
    "spread": ("i", "e", "j"),
    "open": ("a", "ae"),
    "neutral": ("uh",),
    "round": ("o",),
    "pursed": ("u", "y", "w"),
    "closed": ("m", "p", "b"),
    "lip-teeth": ("f", "v"),
    "tongue-tip": ("t", "d", "n", "l"),
    "throat": ("k", "g", "ng", "h"),
    "hiss": ("s", "z"),
    "hush": ("sh",),
    "tongue-teeth": ("th",),
    "rhotic": ("r",),
}
GROUP_NAMES = tuple(GROUPS)
GROUP_OF = tuple(next(n for n, names in enumerate(GROUPS.values()) if name in names) for name in CLASSES)

_VOWELS = {
    "i": "iɪᵻɯɨĩ",
    "e": "eɛεẽ",
    "ae": "æ",
    "a": "aɑɶäã",
    "uh": "ɐʌəɘɤɞ",
    "o": "oɔɒõ",
    "u": "uʊʉũ",
    "y": "yʏøœɵ",
    "r": "ɜɚɝ",
}
_CONSONANTS = {
    "m": "mɱ",
    "p": "p",
    "b": "bɓβ",
    "f": "fɸ",
    "v": "vʋ",
    "w": "wʍɥɰ",
    "n": "nɲɳ",
    "ng": "ŋɴ",
    "t": "tʈ",
    "d": "dɖɗ",
    "k": "kcqʔ",
    "g": "ɡgɟɢɠʄ",
    "s": "s",
    "z": "z",
    "sh": "ʃʒɕʑʂʐçɧ",
    "th": "θð",
    "l": "lɫɭʎɬɮʟ",
    "r": "rɹɾɻʀʁɽɺ",
    "j": "jʝ",
    "h": "hɦxɣχħʕʜ",
}
_VOWEL_OF = {symbol: name for name, symbols in _VOWELS.items() for symbol in symbols}
_CONSONANT_OF = {symbol: name for name, symbols in _CONSONANTS.items() for symbol in symbols}
# Length, stress, tone, ties, releases: they lengthen or colour the phone before them and are no phone themselves.
MODIFIERS = frozenset(
    "ːˑ.ˈˌʰʲʷˠˤˀᵝ˞‿|-_,;:!?'\"^~*/()0123456789 ↗↘↑↓\u0303\u0306\u0308\u030a\u0324\u0325\u0329\u032a\u032c\u032f\u0330"
    "\u0339\u031a\u031c\u031d\u031e\u031f\u0320\u0331\u0361\u035c\u02de¹²³⁴⁵˥˦˧˨˩ˉˊˋ\u200d"
)

_ARPABET = {
    "AA": "a", "AE": "ae", "AH": "uh", "AO": "o", "AW": "a u", "AX": "uh", "AXR": "r", "AY": "a i",
    "B": "b", "CH": "sh", "D": "d", "DH": "th", "DX": "d", "EH": "e", "EL": "uh l", "EM": "uh m", "EN": "uh n",
    "ER": "r", "EY": "e i", "F": "f", "G": "g", "HH": "h", "HV": "h", "IH": "i", "IY": "i", "JH": "sh",
    "K": "k", "L": "l", "M": "m", "N": "n", "NG": "ng", "NX": "n", "OW": "o u", "OY": "o i", "P": "p",
    "R": "r", "S": "s", "SH": "sh", "T": "t", "TH": "th", "UH": "u", "UW": "u", "V": "v", "W": "w",
    "Y": "j", "Z": "z", "ZH": "sh", "PAU": "sil", "SIL": "sil",
}  # fmt: skip
_NOISES = ("+NSN+", "+SPN+", "(NULL)", "H#", "BRTH", "SSIL")


def from_arpabet(phone: str) -> tuple[str, ...]:
    """Classes of an ARPAbet phone (upper or lower case, stress digit allowed); diphthongs give two.

    Raises ``KeyError`` for a symbol that is not ARPAbet.
    """
    name = phone.upper().rstrip("012")
    return ("sil",) if name in _NOISES else tuple(_ARPABET[name].split())


def unmapped(phone: str) -> str:
    """Characters of an IPA string that are neither phones of the table nor known modifiers."""
    return "".join(c for c in phone if c not in _VOWEL_OF and c not in _CONSONANT_OF and c not in MODIFIERS)


def from_ipa(phone: str) -> tuple[str, ...]:
    """Classes of one IPA phone as espeak-ng writes it, in the order they are spoken.

    Diphthongs give one class per vowel (three at most). Affricates ending in a hushing sound are that sound
    (the lips shape for it from the start); ``ts`` and ``dz`` are two. Modifiers alone give an empty tuple:
    the phone before goes on.
    """
    vowels = [_VOWEL_OF[c] for c in phone if c in _VOWEL_OF]
    consonants = [_CONSONANT_OF[c] for c in phone if c in _CONSONANT_OF]
    if not vowels:
        if "sh" in consonants:
            return ("sh",)
        keep = 2 if consonants[:1] in (["t"], ["d"]) and consonants[1:2] in (["s"], ["z"]) else 1
        return tuple(consonants[:keep])
    spoken = [_VOWEL_OF.get(c) or _CONSONANT_OF.get(c) for c in phone]
    merged = [c for n, c in enumerate(spoken) if c and c != next((p for p in reversed(spoken[:n]) if p), None)]
    return tuple(merged[:3])
