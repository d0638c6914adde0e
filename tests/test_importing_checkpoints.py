import collections
import hashlib
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from vivavoce import weights
from vivavoce.errors import InputError
from vivavoce.importing import checkpoints

SHAPES = {"a.weight": (2, 3), "a.bias": (2,)}


def tensors():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, 2.0])}


class Evil:
    """Unpickled by an ordinary reader, it makes a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin", ".safetensors"])
def test_every_accepted_kind_gives_the_same_tensors(tmp_path, suffix):
    file = tmp_path / f"net{suffix}"
    save_file(tensors(), file) if suffix == ".safetensors" else torch.save(tensors(), file)
    checkpoint = checkpoints.read(file)
    assert checkpoint.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert checkpoint.tensors.keys() == SHAPES.keys()
    assert all(torch.equal(checkpoint.tensors[key], value) for key, value in tensors().items())


def test_nested_dictionaries_and_wrappers_are_unwrapped(tmp_path):
    file = tmp_path / "net.pth"
    inner = collections.OrderedDict((f"module.{key}", value) for key, value in tensors().items())
    torch.save({"epoch": 3, "note": "text", "model": inner, "module": {"b": torch.ones(1)}}, file)
    checkpoint = checkpoints.read(file)
    assert set(checkpoint.tensors) == {"model.a.weight", "model.a.bias", "b"}
    assert checkpoint.under("model").keys() == SHAPES.keys()
    assert checkpoint.under("nothing") == {}


@pytest.mark.parametrize("protocol", ["torch", "old torch", "bare pickle"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, protocol):
    file, target = tmp_path / "net.pth", tmp_path / "made-by-the-file"
    content = {**tensors(), "payload": Evil(target)}
    if protocol == "bare pickle":
        file.write_bytes(pickle.dumps({"payload": Evil(target)}))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=protocol == "torch")
    with pytest.raises(InputError, match=r"net\.pth holds more than plain weights, and nothing of it was run"):
        checkpoints.read(file)
    assert not target.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.95])
def test_a_truncated_file_is_refused_by_name(tmp_path, suffix, part):
    file = tmp_path / f"net{suffix}"
    save_file(tensors(), file) if suffix == ".safetensors" else torch.save(tensors(), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(InputError, match=rf"net\{suffix}"):
        checkpoints.read(file)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 1}, "holds no weights at all"),
        ([torch.zeros(1)], "laid out in lists"),
        ({"a": torch.zeros(2).to_sparse()}, "no ordinary tensor"),
        ({"a": {"b": torch.zeros(1)}, "a.b": torch.zeros(1)}, r"holds a\.b twice"),
    ],
)
def test_files_that_are_not_plain_weights_are_refused(tmp_path, content, words):
    file = tmp_path / "net.pth"
    torch.save(content, file)
    with pytest.raises(InputError, match=words):
        checkpoints.read(file)


def test_dictionaries_in_each_other_without_end_are_refused(tmp_path):
    file = tmp_path / "net.pth"
    ring = {"a": torch.zeros(1)}
    ring["again"] = ring
    torch.save(ring, file)
    with pytest.raises(InputError, match="without end"):
        checkpoints.read(file)


def test_files_of_another_kind_are_refused_by_name(tmp_path):
    for name, words in (("net.onnx", "accepted: .pth"), ("gone.pth", "cannot be read"), ("gone.safetensors", "gone")):
        if name == "net.onnx":
            (tmp_path / name).write_bytes(b"x")
        with pytest.raises(InputError, match=words):
            checkpoints.read(tmp_path / name)


def test_matching_renames_and_leaves_counters_behind():
    found = {f"old.{key}": value for key, value in tensors().items()} | {"old.num_batches_tracked": torch.tensor(7)}

    def rename(key):
        kept = checkpoints.without_counters(key)
        return kept and kept.removeprefix("old.")

    matched = checkpoints.matched(found, SHAPES, what="net", rename=rename)
    assert list(matched) == list(SHAPES)
    assert torch.equal(matched["a.bias"], tensors()["a.bias"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a.bias": None}, "missing: a.bias"),
        ({"extra": torch.zeros(1)}, "unknown: extra"),
        ({"a.weight": torch.zeros(3, 2)}, r"a\.weight is \[3, 2\] but must be \[2, 3\]"),
        ({"a.bias": torch.tensor([1, 2])}, r"a\.bias holds torch\.int64"),
        ({"a.bias": torch.tensor([1.0, float("nan")])}, "not finite numbers: a.bias"),
        ({"a.weight": None, "a.bias": None, "c": torch.zeros(1)}, "net is something else.*the first is c"),
    ],
)
def test_what_does_not_match_is_named(change, words):
    found = {key: value for key, value in (tensors() | change).items() if value is not None}
    with pytest.raises(InputError, match=words):
        checkpoints.matched(found, SHAPES, what="net")


def test_two_names_of_one_weight_are_refused():
    found = tensors() | {"old.a.bias": torch.zeros(2)}
    with pytest.raises(InputError, match=r"twice: old\.a\.bias and a\.bias"):
        checkpoints.matched(found, SHAPES, what="net", rename=lambda key: key.removeprefix("old."))


def test_a_huge_shape_on_small_storage_is_refused_before_it_is_copied():
    claimed = torch.zeros(1).expand(1 << 40)
    with pytest.raises(InputError, match="must be"):
        checkpoints.matched({"a.weight": tensors()["a.weight"], "a.bias": claimed}, SHAPES, what="net")


def test_files_are_found_in_nested_folders_or_named_directly(tmp_path):
    deep = tmp_path / "one" / "two"
    deep.mkdir(parents=True)
    (deep / "net.pth").write_bytes(b"")
    assert checkpoints.find(tmp_path, ["net.safetensors", "net.pth"]) == deep / "net.pth"
    assert checkpoints.find(deep / "net.pth", ["net.pth"]) == deep / "net.pth"
    assert checkpoints.find(deep / "net.pth", ["other.pth"]) is None
    (tmp_path / "net.pth").write_bytes(b"")
    with pytest.raises(InputError, match="2 files called net"):
        checkpoints.find(tmp_path, ["net.pth"])
    with pytest.raises(InputError, match="no file or folder"):
        checkpoints.find(tmp_path / "nowhere", ["net.pth"])


def test_published_weights_and_card_are_written_together(tmp_path):
    folder = tmp_path / "new" / "weights"
    file = checkpoints.publish(folder, "net", tensors(), "# Card\n", config={"width": 2})
    assert weights.read(file)[1] == {"config": {"width": 2}}
    assert (folder / "net.md").read_text() == "# Card\n"
    assert sorted(path.name for path in folder.iterdir()) == ["net.md", "net.safetensors"]


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    (tmp_path / "net.md").mkdir()  # in the way of the card
    with pytest.raises(InputError, match="cannot be written"):
        checkpoints.publish(tmp_path, "net", tensors(), "# Card\n")
    assert [path.name for path in tmp_path.iterdir()] == ["net.md"]
