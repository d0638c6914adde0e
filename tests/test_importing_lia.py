"""Import of the published layout, and parity with the published implementation on random weights of full size.

``golden/lia.safetensors`` holds every n-th number and the norm of what LIA's own networks (commit b9f15fb) gave for the
weights and pictures of ``golden/lia.py``, at 256 and 512; ``lia_layout.json`` their names and shapes.
"""

import json
from pathlib import Path

import pytest
import torch
from golden import lia as golden
from safetensors.torch import load_file, save_file

from vivavoce.cli import main
from vivavoce.errors import InputError
from vivavoce.importing import lia as importing
from vivavoce.nets.lia import Lia, LiaConfig

HERE = Path(__file__).parent / "golden"
LAYOUT = json.loads((HERE / "lia_layout.json").read_text())
COUNTS = {256: 45_116_317, 512: 45_239_560}
# Published parameters that no picture depends on: the unused colour layer (512 x 3 + 3 + 3), and one strength of a
# noise that is never given for each styled convolution.
UNUSED = {256: 1_542 + 13, 512: 1_542 + 15}


def network(size):
    config, tensors = importing.mapped(golden.published(LAYOUT[str(size)]), f"lia {size}")
    made = Lia(config)
    made.load_state_dict(tensors)
    return made.eval().requires_grad_(False)


def toy(**changes):
    """A small checkpoint in the published layout, 8 pixels wide."""
    layout = {key: shape for key, shape in LAYOUT["256"].items() if small(key)}
    layout |= {"enc.net_app.convs.0.0.weight": [512, 3, 1, 1], "enc.net_app.convs.0.1.bias": [1, 512, 1, 1]}
    last = {"enc.net_app.convs.2.weight": LAYOUT["256"]["enc.net_app.convs.7.weight"]}
    first = {
        k.replace("convs.6", "convs.1"): v for k, v in LAYOUT["256"].items() if k.startswith("enc.net_app.convs.6")
    }
    tensors = golden.published(layout | last | first) | changes
    return {key: value for key, value in tensors.items() if value is not None}


def small(key):
    level = ("dec.convs.0.", "dec.convs.1.", "dec.to_rgbs.0.", "dec.to_flows.0.")
    return key.startswith((*level, "dec.direction", "dec.input", "dec.conv1", "dec.to_rgb1", "enc.fc"))


@pytest.mark.parametrize("size", [256, 512])
def test_parameters_are_the_published_ones_less_those_that_nothing_uses(size):
    with torch.device("meta"):
        ours = sum(value.numel() for value in Lia(LiaConfig(size=size)).parameters())
    layout = {key: torch.Size(shape).numel() for key, shape in LAYOUT[str(size)].items()}
    left = {key for key in layout if importing.renamed(key) is None}
    unused = sum(layout[key] for key in left if not key.endswith(".kernel"))  # taps are no parameters
    assert unused == UNUSED[size]
    assert ours + unused == COUNTS[size]
    assert {key.split(".", 2)[1] for key in left if not key.endswith(".kernel")} == {"to_rgb1", "conv1", "convs"}


def agree(name, value, within=1e-4):
    reference = load_file(HERE / "lia.safetensors")
    flat = value.double().flatten()
    found = flat[:: max(1, flat.numel() // 2000) | 1].float()
    assert float((found - reference[name]).norm() / reference[name].norm()) < within, name
    assert float(flat.norm()) == pytest.approx(float(reference[f"{name}.norm"]), rel=within), name


@pytest.mark.timeout(300)
@torch.inference_mode()
@pytest.mark.parametrize("size", [256, 512])
def test_every_network_and_the_whole_picture_are_the_published_ones(size):
    networks = network(size)
    appearance, own = networks.seen(golden.picture("source", size))
    driving = networks.seen(golden.picture("driving", size))[1]
    agree(f"{size}.latent", appearance.latent)
    for n, feature in enumerate(appearance.features):
        agree(f"{size}.features.{n}", feature)
    agree(f"{size}.code", driving)
    agree(f"{size}.direction", networks.directions(driving))
    agree(f"{size}.absolute", networks(appearance, driving).picture)
    if size == 256:  # what follows is the same at any size
        agree("256.basis", networks.directions.basis)
        start = networks.seen(golden.picture("first", size))[1]
        agree("256.start", start)
        agree("256.relative", networks(appearance, driving - start + own).picture)
        still = networks(appearance, torch.zeros(1, 20)).picture
        agree("256.unmoved", still)
        square = networks.directions.basis.T @ networks.directions.basis
        assert float((square - torch.eye(20)).abs().max()) < 1e-5


@torch.inference_mode()
def test_moving_by_nothing_is_the_reconstruction():
    config, tensors = importing.mapped(toy(), "toy")
    made = Lia(config)
    made.load_state_dict(tensors)
    appearance = made.eval().seen(golden.picture("source", 8))[0]
    still = made(appearance, torch.zeros(1, 20)).picture
    assert torch.equal(still, made.synthesis(appearance.latent, appearance.features).picture)
    assert not torch.allclose(still, made(appearance, torch.ones(1, 20)).picture)


@pytest.mark.parametrize("layout", ["vox.pt", "float.pth", "FLOAT.safetensors"])
def test_published_files_become_weights_and_a_card(tmp_path, layout):
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / layout
    if layout == "vox.pt":
        torch.save({"gen": toy(), "dis": {"a": torch.zeros(1)}, "g_optim": {"state": {0: torch.zeros(1)}}}, file)
    else:
        inside = {f"motion_autoencoder.{key}": value for key, value in toy().items()} | {"fmt.a": torch.zeros(1)}
        torch.save(inside, file) if file.suffix == ".pth" else save_file(inside, file)
    assert main(["import", "lia", str(tmp_path), "--out", str(tmp_path / "w")]) == 0
    networks = Lia.load(tmp_path / "w" / "lia.safetensors")
    assert networks.config == LiaConfig(size=8)
    weight = golden.published({"enc.fc.0.weight": [512, 512]})["enc.fc.0.weight"] / 512**0.5
    assert torch.allclose(networks.encoder.read[0].weight, weight)
    card = (tmp_path / "w" / "lia.md").read_text()
    assert "`dec.to_rgb1.conv.0.weight`" in card
    assert "non-commercial" in card or "NC" in card


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dec.conv1.activate.bias": None}, r"vox\.pt \(LIA\) does not fit: missing: synthesis\.first\.bias"),
        ({"dec.convs.0.more": torch.zeros(1)}, r"unknown: dec\.convs\.0\.more"),
        ({"enc.net_app.convs.0.2.bias": torch.zeros(1)}, r"unknown: enc\.net_app\.convs\.0\.2\.bias"),
        ({"dec.input.input": torch.zeros(1, 512, 4, 5)}, r"dec\.input\.input is \[512, 4, 5\] but must be"),
        ({"enc.fc.4.bias": torch.full((20,), torch.nan)}, r"not finite numbers: enc\.fc\.4\.bias"),
        ({"dec.direction.weight": None}, "something else"),
        ({"dec.direction.weight": torch.zeros(512, 600)}, "600 directions, which no LIA has"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(tmp_path, changes, words):
    torch.save({"gen": toy(**changes)}, tmp_path / "vox.pt")
    with pytest.raises(InputError, match=words):
        importing.convert(tmp_path, tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no LIA checkpoint \(looked for vox\.pt"):
        importing.convert(tmp_path, tmp_path / "w")
