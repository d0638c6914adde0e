from pathlib import Path

import numpy as np
import pytest
import torch
from keypoint_weights import TOY, toy_networks, write_toy

from vivavoce.errors import InputError
from vivavoce.media.read import contents, read_source, read_video
from vivavoce.media.write import write_video
from vivavoce.motion import keypoints
from vivavoce.motion.space import KEYPOINT
from vivavoce.system import Clip, Portrait
from vivavoce.systems.liveportrait import Follow, _Move, assemble
from vivavoce.timeline import Clock, Span

DEMO = Path(__file__).parents[1] / "assets" / "demo_portrait.jpg"
FRAMES = 6


@pytest.fixture(scope="module")
def driving(tmp_path_factory):
    """A short film: the demo portrait, shifted a little further in every frame."""
    file, picture, clock = tmp_path_factory.mktemp("film") / "driving.mp4", read_source(DEMO), Clock()
    clips = (
        Clip(Span(n, n + 1), picture.roll(4 * n, -1), torch.zeros(clock.sample(n + 1) - clock.sample(n)))
        for n in range(FRAMES)
    )
    write_video(file, clips, clock)
    return file


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("weights"))


def test_a_portrait_follows_a_film_on_the_command_line(real_cli, driving, weights, tmp_path):
    out = tmp_path / "out.mp4"
    outcome = real_cli(
        *("reenact", DEMO, driving, "-o", out, "--system", "liveportrait", "--weights", weights, "--json"),
        *("--region", "all", "--retarget", "eyes", "--no-relative", "--no-stitch"),
    )
    assert outcome.code == 0, outcome.err
    assert contents(out).picture
    frames = list(read_video(out))
    assert len(frames) == FRAMES
    assert frames[0].shape == read_source(DEMO).shape[1:]


def test_weights_that_are_not_there_are_named(real_cli, driving, tmp_path):
    words = ("reenact", DEMO, driving, "-o", tmp_path / "out.mp4", "--system", "liveportrait")
    outcome = real_cli(*words, "--weights", tmp_path)
    assert outcome.code == 2
    assert "vivavoce import liveportrait" in outcome.err


def test_a_picture_drives_too(weights, driving):
    system = assemble(driving=DEMO, weights=weights, crop=True, size=128)
    clips = list(system.stream(read_source(DEMO), [torch.zeros(3 * 640)]))
    assert sum(len(clip.rgb) for clip in clips) == 3
    assert torch.equal(clips[0].rgb[0], clips[-1].rgb[-1])  # it stands still


def test_a_film_without_a_face_is_refused(weights, tmp_path):
    clock, file = Clock(), tmp_path / "empty.mp4"
    grey = torch.full((2, 3, 64, 64), 90, dtype=torch.uint8)
    write_video(file, iter([Clip(Span(0, 2), grey, torch.zeros(clock.sample(2)))]), clock)
    with pytest.raises(InputError, match="no face was found in the driving"):
        list(assemble(driving=file, weights=weights).stream(read_source(DEMO), [torch.zeros(1280)]))


@pytest.mark.parametrize(
    ("options", "words"), [({"region": "nose"}, "no region 'nose'"), ({"retarget": ("ears",)}, "'ears' cannot")]
)
def test_wishes_that_do_not_exist_are_refused(options, words):
    follow = {"region": "all", "retarget": ()} | options
    with pytest.raises(InputError, match=words):
        Follow.__post_init__(type("Wish", (), follow)())  # past the type checker


def portrait(count=1):
    generator = torch.Generator().manual_seed(0)
    rows = 0.05 * torch.randn(1, 70, generator=generator).repeat(count, 1)
    rows[:, KEYPOINT.slice("scale")] += 1
    cache = {
        "canonical": 0.3 * torch.randn(1, 21, 3, generator=generator).repeat(count, 1, 1),
        "openings": torch.full((count, 3), 0.2),
    }
    return Portrait(torch.zeros(count, 3, 2, 2, dtype=torch.uint8), rows, cache)


def driver(count):
    rows = portrait(count).reference + 0.02 * torch.randn(count, 70, generator=torch.Generator().manual_seed(1))
    rows[:, KEYPOINT.slice("rotation")] += torch.linspace(0, 20, count)[:, None]
    return rows


def move(follow, count=4, still=False):
    sitter, rows = portrait(), driver(count)
    step = _Move(toy_networks().requires_grad_(False), follow, sitter, rows[0], still)
    made = step(0, rows, torch.full((count, 3), 0.3))
    return keypoints.placed(made, sitter.cache["canonical"]), keypoints.placed(
        sitter.reference, sitter.cache["canonical"]
    )


def test_relative_motion_begins_at_the_portrait_itself():
    moved, own = move(Follow())
    assert torch.allclose(moved[0], own[0], atol=1e-5)
    assert (moved[3] - own[0]).abs().max() > 0.01


def test_pieces_of_a_film_give_the_same_motion_as_the_whole():
    sitter, rows = portrait(), driver(6)
    opened = torch.full((6, 3), 0.3)
    networks = toy_networks().requires_grad_(False)
    whole = _Move(networks, Follow(), sitter, rows[0], False)(0, rows, opened)
    step = _Move(networks, Follow(), sitter, rows[0], False)
    pieces = torch.cat([step(n, rows[n : n + 2], opened[n : n + 2]) for n in (0, 2, 4)])
    assert torch.allclose(whole, pieces, atol=1e-5)


def test_retargeting_alone_moves_the_portrait_by_what_its_network_says():
    moved, own = move(Follow(retarget=("lips",)))
    networks, flat = toy_networks(), own.flatten(1)
    change = networks.lips(torch.cat([flat, torch.tensor([[0.2, 0.3]])], 1)).detach().view(21, 3)
    assert torch.allclose(moved[2], own[0] + change, atol=1e-5)


@pytest.mark.timeout(300)
def test_warping_and_decoder_run_in_onnx(tmp_path, request):
    pytest.importorskip("onnx")
    from jaxtyping import config

    onnxruntime = pytest.importorskip("onnxruntime")
    networks = toy_networks().requires_grad_(False)
    size = TOY.appearance
    volume = torch.randn(1, size.channels, size.depth, 16, 16)
    source, turned = 0.4 * torch.randn(2, 1, 21, 3)

    class Drawn(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.networks = networks

        def forward(self, volume, driving, source):
            return self.networks.drawn(volume, driving, source)

    inputs = (volume, turned, source)
    config.update("jaxtyping_disable", True)  # a graph being traced has no sizes to check
    request.addfinalizer(lambda: config.update("jaxtyping_disable", False))
    drawn = Drawn().eval()
    torch.onnx.export(drawn, inputs, tmp_path / "drawn.onnx", dynamo=False, opset_version=17,
                      input_names=["volume", "driving", "source"])  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "drawn.onnx", providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    found = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})[0]
    assert np.abs(found - networks.drawn(*inputs).numpy()).max() < 1e-4
