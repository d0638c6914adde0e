import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vivavoce import weights
from vivavoce.errors import InputError


def test_what_is_written_is_read_back(tmp_path):
    file = tmp_path / "net.safetensors"
    net = nn.Linear(3, 2)
    weights.write(file, net.state_dict(), config={"width": 3}, note="plain text")
    tensors, header = weights.read(file)
    assert header == {"config": {"width": 3}, "note": "plain text"}
    assert torch.equal(tensors["weight"], net.weight)
    loaded = weights.load_into(nn.Linear(3, 2), file)
    assert torch.equal(loaded.bias, net.bias)
    assert not loaded.training
    assert not loaded.weight.requires_grad


def test_half_precision_files_fill_single_precision_modules(tmp_path):
    file = tmp_path / "half.safetensors"
    weights.write(file, {key: value.half() for key, value in nn.Linear(3, 2).state_dict().items()})
    assert weights.load_into(nn.Linear(3, 2), file).weight.dtype == torch.float32


def test_a_prefix_picks_one_module_of_several(tmp_path):
    file = tmp_path / "two.safetensors"
    one, two = nn.Linear(3, 2), nn.Linear(4, 1)
    pairs = [("one", one), ("two", two)]
    weights.write(file, {f"{name}.{key}": value for name, net in pairs for key, value in net.state_dict().items()})
    assert torch.equal(weights.load_into(nn.Linear(4, 1), file, prefix="two.").weight, two.weight)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"weight": torch.zeros(2, 3)}, "missing: bias"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "extra": torch.zeros(1)}, "unknown: extra"),
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"weight is \[2, 4\] but must be \[2, 3\]"),
        ({f"k{n}": torch.zeros(1) for n in range(9)}, "k0, k1, k2 and 6 more"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, tensors, words):
    file = tmp_path / "net.safetensors"
    save_file(tensors, file)
    with pytest.raises(InputError, match=words):
        weights.load_into(nn.Linear(3, 2), file)


def test_missing_and_broken_files_are_said(tmp_path):
    with pytest.raises(InputError, match="no weights 'nothing'"):
        weights.read("nothing")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x00" * 5)
    with pytest.raises(InputError, match="not a safetensors file"):
        weights.metadata(broken)


@pytest.mark.parametrize("name", weights.names())
def test_packaged_weights_carry_their_configuration_and_a_card(name):
    assert "config" in weights.metadata(name)
    assert weights.path(name).with_suffix(".md").is_file()
    json.dumps(weights.metadata(name))
