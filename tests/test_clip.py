import json

import numpy as np
import pytest
import torch

from vivavoce.emotion import clip
from vivavoce.emotion.labels import EMOTIONS
from vivavoce.emotion.text import feeling
from vivavoce.emotion.words import entries
from vivavoce.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP text encoder of nobody's: random weights, letters as tokens."""
    transformers = pytest.importorskip("transformers")
    place = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (place / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(vocabulary)}))
    (place / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizerFast(
        vocab={token: index for index, token in enumerate(vocabulary)}, merges=[]
    )
    tokenizer.save_pretrained(place)
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=128, intermediate_size=64, projection_dim=128, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=77, bos_token_id=52, eos_token_id=53, pad_token_id=53,
        initializer_factor=2.0,
    )  # fmt: skip
    transformers.CLIPTextModelWithProjection(config).save_pretrained(place)
    return place


def test_a_clip_model_reads_feelings(folder, monkeypatch):
    few = dict(list(entries().items())[::60])
    monkeypatch.setattr(clip, "entries", lambda: few)
    monkeypatch.setattr(clip, "ORDINARY", ("table", "kitchen", "person"))
    monkeypatch.setattr(clip, "RIDGE", 1e-4)
    reader = clip.reader(folder)
    assert reader is not None
    # Random weights generalise nothing, but with fewer words than numbers in a row the map recalls its lesson.
    for word, (mix, _) in few.items():
        meant = reader.meaning(word)
        assert meant is not None, word
        assert mix.get(EMOTIONS[int(meant.argmax())], 0) == max(mix.values())
    word = next(iter(few))
    found, strong = feeling(f"a {word}", reader), feeling(f"very {word}", reader)
    assert found is not None
    assert strong is not None
    assert np.isclose(sum(found.mix), 1)
    assert strong.strength > found.strength or strong.strength == 2.0
    assert reader.meaning("table") is None


def test_folders_that_hold_no_model_are_refused(tmp_path):
    pytest.importorskip("transformers")
    assert clip.reader(None) is None
    with pytest.raises(InputError, match="has no config"):
        clip.reader(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be used as a CLIP text encoder"):
        clip.reader(tmp_path)
