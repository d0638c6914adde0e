"""Import of the published layout, and parity with the published implementation on random weights of full size.

``golden/liveportrait.safetensors`` holds every n-th number and the norm of what LivePortrait's own networks (commit
1986663) gave for the weights and inputs of ``golden/weights.py``; ``liveportrait_layout.json`` their names and shapes.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from golden import weights as golden
from safetensors.torch import load_file, save_file

from vivavoce.errors import InputError
from vivavoce.importing.liveportrait import import_liveportrait
from vivavoce.motion import keypoints
from vivavoce.motion.space import KEYPOINT
from vivavoce.nets.liveportrait import PARTS, Networks
from vivavoce.nets.motion_extractor import Heads

HERE = Path(__file__).parent / "golden"
LAYOUT = json.loads((HERE / "liveportrait_layout.json").read_text())
SMALL = {name: name for name in LAYOUT if name.startswith("retarget")}
SEED = 1
COUNTS = {
    "appearance": 836_224,
    "motion": 28_118_728,
    "warping": 45_529_829,
    "decoder": 55_365_388,
    "stitching": 45_249,
    "eyes": 144_703,
    "lips": 37_311,
}


def published(name):
    return {key: golden.weight(SEED, f"{name}.{key}", tuple(shape)) for key, shape in LAYOUT[name].items()}


def write(folder, names=tuple(LAYOUT)):
    """The published folders; files of networks that are not in ``names`` are there, but empty."""
    for place in ("base_models", "retargeting_models"):
        (folder / place).mkdir(parents=True)
    for name in LAYOUT.keys() - SMALL.keys():
        file = folder / "base_models" / f"{name}.pth"
        torch.save(published(name), file) if name in names else file.write_bytes(b"")
    small = {name: {f"module.{key}": value for key, value in published(name).items()} for name in SMALL}
    torch.save(small, folder / "retargeting_models" / "stitching_retargeting_module.pth")
    return folder


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Imported from .pth files of full size, loaded, the files removed."""
    place = tmp_path_factory.mktemp("full")
    file = import_liveportrait(write(place / "published"), place / "weights")
    assert sorted(path.name for path in file.parent.iterdir()) == ["liveportrait.md", "liveportrait.safetensors"]
    loaded = Networks.load(file.parent)
    shutil.rmtree(place)
    return loaded


def test_parameters_are_as_many_as_published():
    with torch.device("meta"):
        made = Networks()
    assert {part: sum(p.numel() for p in getattr(made, part).parameters()) for part in PARTS} == COUNTS


def agree(name, value, within=1e-4):
    reference = load_file(HERE / "liveportrait.safetensors")
    flat = value.double().flatten()
    found = flat[:: max(1, flat.numel() // 3000) | 1].float()
    assert float((found - reference[name]).norm() / reference[name].norm()) < within, name
    assert float(flat.norm()) == pytest.approx(float(reference[f"{name}.norm"]), rel=within), name


@pytest.mark.timeout(300)
@torch.inference_mode()
def test_every_network_gives_what_the_published_one_gives(networks):
    picture = golden.uniform(SEED, "picture", (1, 3, 256, 256))
    agree("appearance", networks.appearance(picture))
    for name, head in zip(("kp", "scale", "pitch", "yaw", "roll", "t", "exp"), networks.motion(picture), strict=True):
        agree(f"motion.{name}", head)
    source, driving = (golden.normal(SEED, name, (1, 21, 3), 0.4) for name in ("source", "driving"))
    warped = networks.warping(golden.normal(SEED, "volume", (1, 32, 16, 64, 64)), driving, source)
    agree("warping.out", warped.features)
    agree("warping.occlusion", warped.occlusion)
    agree("warping.deformation", warped.deformation)
    agree("decoder", networks.decoder(golden.normal(SEED, "features", (1, 256, 64, 64))))
    agree("retarget_shoulder", networks.stitching(golden.normal(SEED, "both", (2, 126))))
    agree("retarget_eye", networks.eyes(golden.normal(SEED, "eyes", (2, 66))))
    agree("retarget_mouth", networks.lips(golden.normal(SEED, "lips", (2, 65))))


@pytest.mark.timeout(300)
@torch.inference_mode()
def test_the_whole_path_from_picture_to_frame_agrees(networks):
    picture = golden.uniform(SEED, "picture", (1, 3, 256, 256))
    rows, canonical = keypoints.decoded(Heads(*networks.motion(picture)))
    agree("path.degrees", rows[:, KEYPOINT.slice("rotation")], 1e-3)
    change = golden.normal(SEED, "change", (70,), 0.1)
    moved = KEYPOINT.unpack(rows.clone())
    moved["rotation"] += 20 * change[67:]
    moved["expression"] += 0.2 * change[:63].view(21, 3)
    moved["scale"] *= 1 + change[63]
    moved["translation"] += change[64:67]
    source, driving = keypoints.placed(rows, canonical), keypoints.placed(KEYPOINT.pack(moved), canonical)
    agree("path.source", source, 1e-3)
    agree("path.driving", driving, 1e-3)
    stitched = networks.stitching(torch.cat([source.flatten(1), driving.flatten(1)], 1))
    driving = keypoints.stitched(stitched, driving)
    agree("path.stitched", driving, 1e-3)
    agree("path.frame", networks.drawn(networks.appearance(picture), driving, source), 1e-3)


def refused(folder, words, out):
    with pytest.raises(InputError, match=words):
        import_liveportrait(folder, out)
    assert not out.exists()


def test_missing_files_are_named_before_the_long_work(tmp_path):
    refused(tmp_path, r"appearance_feature_extractor\.safetensors or appearance_feature_extractor\.pth", tmp_path / "o")
    folder = write(tmp_path / "in", ("appearance_feature_extractor",))
    (folder / "base_models" / "spade_generator.pth").unlink()
    refused(folder, r"spade_generator\.pth \(the decoder\)", tmp_path / "o")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"second.bias": None}, r"appearance_feature_extractor\.pth .* missing: unfold\.bias"),
        ({"second.bias": torch.zeros(3)}, r"second\.bias is \[3\] but must be \[512\]"),
        ({"third.weight": torch.zeros(3)}, r"unknown: third\.weight"),
        ({"second.bias": torch.full((512,), float("nan"))}, r"not finite numbers: second\.bias"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path, change, words):
    folder = write(tmp_path / "in", ())
    tensors = {k: v for k, v in (published("appearance_feature_extractor") | change).items() if v is not None}
    torch.save(tensors, folder / "base_models" / "appearance_feature_extractor.pth")
    refused(folder, words, tmp_path / "out")


def test_another_network_truncation_and_code_are_refused(tmp_path):
    folder = write(tmp_path / "in", ())
    file = folder / "base_models" / "appearance_feature_extractor.pth"
    torch.save(published("retarget_eye"), file)
    refused(folder, "is something else", tmp_path / "out")
    torch.save(published("appearance_feature_extractor"), file)
    file.write_bytes(file.read_bytes()[:-4000])
    refused(folder, "damaged", tmp_path / "out")

    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({**published("appearance_feature_extractor"), "x": Code()}, file)
    refused(folder, "nothing of it was run", tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_the_flat_layout_of_the_small_networks_is_read_too(tmp_path):
    from vivavoce.importing.checkpoints import read
    from vivavoce.importing.liveportrait import FILES, _part
    from vivavoce.weights.systems import shapes

    with torch.device("meta"):
        wanted = shapes(Networks())
    flat = {f"{name}_module.{key}": value for name in SMALL for key, value in published(name).items()}
    save_file(flat, tmp_path / "stitching_retargeting_module.safetensors")
    checkpoint = read(tmp_path / "stitching_retargeting_module.safetensors")
    for entry in FILES:
        if entry.file == "stitching_retargeting_module":
            part = _part(checkpoint, entry, wanted)
            assert torch.equal(part["0.weight"], published(entry.entries[0])["mlp.0.weight"])


def test_weights_of_another_system_are_refused_when_loaded(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "liveportrait.safetensors", {"system": '"moda"'})
    with pytest.raises(InputError, match="weights of 'moda', not of 'liveportrait'"):
        Networks.load(tmp_path)
    with pytest.raises(InputError, match="vivavoce import liveportrait"):
        Networks.load(tmp_path / "nothing")
