from pathlib import Path

import numpy as np
import pytest
import torch
from keypoint_weights import toy_networks, write_toy

from vivavoce.errors import InputError
from vivavoce.media.read import read_source
from vivavoce.motion.space import KEYPOINT, Motion
from vivavoce.nets.liveportrait import Networks
from vivavoce.render.keypoint import KeypointRenderer
from vivavoce.system import Drive
from vivavoce.timeline import Span

DEMO = Path(__file__).parents[1] / "assets" / "demo_portrait.jpg"


@pytest.fixture(scope="module")
def source():
    return read_source(DEMO)


@pytest.fixture(scope="module")
def networks():
    return toy_networks().requires_grad_(False)


def drawn(renderer, portrait, rows):
    drives = [Drive(Motion(Span(0, len(rows)), KEYPOINT, rows), torch.zeros(len(rows), 0))]
    with torch.inference_mode():
        return torch.cat([frames.rgb for frames in renderer.frames(portrait, drives)])


def test_a_portrait_is_cut_upright_and_its_motion_is_read(networks, source):
    portrait = KeypointRenderer(networks).portrait(source)
    assert portrait.reference.shape == (1, 70)
    assert portrait.cache["crops"].shape == (1, 3, 256, 256)
    x, y, side, turn = portrait.cache["squares"][0].tolist()
    assert 0 < x < source.shape[3]
    assert 0 < y < source.shape[2]
    assert side > 200
    assert abs(turn) < 0.2


def test_what_lies_outside_the_square_keeps_every_pixel(networks, source):
    renderer = KeypointRenderer(networks)
    wide = torch.nn.functional.pad(source.float(), (300, 300, 0, 0), value=7).to(torch.uint8)
    portrait = renderer.portrait(wide)
    frame = drawn(renderer, portrait, portrait.reference)[0]
    x, _, side, _ = portrait.cache["squares"][0].tolist()
    right = int(x + 0.8 * side)
    assert torch.equal(frame[:, :, right:], wide[0, :, :, right:])
    assert not torch.equal(frame, wide[0])


def test_batches_and_pieces_draw_the_same_frames(networks, source):
    rows = KeypointRenderer(networks).portrait(source).reference.repeat(5, 1)
    rows[:, KEYPOINT.slice("rotation")] += torch.linspace(-20, 20, 5)[:, None]
    one, three = (KeypointRenderer(networks, crop=True, batch=n) for n in (1, 3))
    singly, together = (drawn(renderer, renderer.portrait(source), rows) for renderer in (one, three))
    assert singly.shape == (5, 3, 512, 512)
    assert (singly.int() - together.int()).abs().max() <= 1
    assert not torch.equal(singly[0], singly[4])


def test_each_choice_changes_the_picture(networks, source):
    plain = KeypointRenderer(networks, crop=True)
    portrait = plain.portrait(source)
    rows = portrait.reference.clone()
    rows[:, KEYPOINT.slice("rotation")] += 25
    expected = drawn(plain, portrait, rows)
    opened = {**portrait.cache, "openings": torch.full((1, 3), 0.2)}
    for options in ({"stitch": False}, {"multiplier": 0.3}, {"close_lips": True}):
        portrait.cache.update(opened if "close_lips" in options else {})  # type: ignore[attr-defined]
        changed = drawn(KeypointRenderer(networks, crop=True, **options), portrait, rows)
        assert not torch.equal(changed, expected), options
    still = drawn(KeypointRenderer(networks, crop=True, stitch=False, multiplier=0.0), portrait, rows)
    assert torch.equal(still, drawn(KeypointRenderer(networks, crop=True, stitch=False), portrait, portrait.reference))


def test_sizes_bound_the_head_view_and_the_redrawn_square(networks, source):
    small = KeypointRenderer(networks, crop=True, size=256)
    assert drawn(small, small.portrait(source), small.portrait(source).reference).shape == (1, 3, 256, 256)
    scaled = KeypointRenderer(networks, size=128).portrait(source)
    assert float(scaled.cache["squares"][0, 2]) == pytest.approx(128, rel=0.02)
    assert scaled.cache["pictures"].shape[-1] < source.shape[-1]


@pytest.mark.skipif("AVX512" not in torch.backends.cpu.get_cpu_capability(), reason="emulated, which takes minutes")
def test_half_precision_is_near(networks, source):
    full, half = (KeypointRenderer(networks, crop=True, precision=p) for p in ("fp32", "bf16"))
    portrait = full.portrait(source)
    away = drawn(full, portrait, portrait.reference).int() - drawn(half, portrait, portrait.reference).int()
    assert away.abs().float().mean() < 2


def test_a_moving_portrait_keeps_its_own_frames(networks, source):
    film = torch.cat([source, source.roll(6, -1), source.roll(12, -1)])
    renderer = KeypointRenderer(networks)
    portrait = renderer.portrait(film)
    assert portrait.reference.shape == (3, 70)
    xs = portrait.cache["squares"][:, 0]
    assert (xs.diff() - 6).abs().max() < 3
    frames = drawn(renderer, portrait, portrait.reference[[0, 1, 2, 1]])
    assert np.array_equal(frames[1], frames[3])  # forwards and back again


def test_wrong_requests_are_refused(networks, source):
    with pytest.raises(InputError, match="1 frame or more"):
        KeypointRenderer(networks, batch=0)
    with pytest.raises(InputError, match="no face"):
        KeypointRenderer(networks).portrait(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(InputError, match="no face 5"):
        KeypointRenderer(networks, face=5).portrait(source)


def test_saved_networks_load_to_the_same_outputs(tmp_path, networks):
    loaded = Networks.load(write_toy(tmp_path))
    picture = torch.rand(1, 3, 256, 256)
    with torch.inference_mode():
        assert torch.allclose(loaded.appearance(picture), networks.appearance(picture), atol=1e-4)
        for one, other in zip(loaded.motion(picture), networks.motion(picture), strict=True):
            assert torch.allclose(one, other, atol=1e-5)
