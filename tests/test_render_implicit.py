from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vivavoce.data.codes import extract, load
from vivavoce.errors import InputError
from vivavoce.face import upright
from vivavoce.face.upright import Square
from vivavoce.media.read import read_source
from vivavoce.motion.space import IMPLICIT, Motion
from vivavoce.nets.lia import Lia, LiaConfig
from vivavoce.nets.lia_start import start_as_source
from vivavoce.registry import load as load_system
from vivavoce.render.aligned import image
from vivavoce.render.detail import finer
from vivavoce.render.implicit import ImplicitRenderer
from vivavoce.system import Drive
from vivavoce.systems import ifmdm
from vivavoce.timeline import Span

DEMO = Path(__file__).parents[1] / "assets" / "demo_portrait.jpg"


@pytest.fixture(scope="module")
def source():
    return read_source(DEMO)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return Lia(LiaConfig(size=64, multiplier=0.0625, bounded=True, groups=2)).plain()


def drawn(renderer, portrait, rows):
    drives = [Drive(Motion(Span(0, len(rows)), IMPLICIT, rows), torch.zeros(len(rows), 0))]
    with torch.inference_mode():
        return torch.cat([frames.rgb for frames in renderer.frames(portrait, drives)])


def test_the_portrait_is_its_code_and_what_is_moved(networks, source):
    portrait = ImplicitRenderer(networks).portrait(source)
    assert portrait.reference.shape == (1, 20)
    assert portrait.reference.abs().max() < 1
    assert portrait.cache["latent"].shape == (1, 32)
    assert [portrait.cache[f"features {n}"].shape[-1] for n in range(4)] == [8, 16, 32, 64]


def test_what_lies_outside_the_square_keeps_every_pixel(networks, source):
    renderer = ImplicitRenderer(networks)
    wide = torch.nn.functional.pad(source.float(), (300, 300, 0, 0), value=7).to(torch.uint8)
    portrait = renderer.portrait(wide)
    frame = drawn(renderer, portrait, portrait.reference)[0]
    x, _, side, _ = portrait.cache["squares"][0].tolist()
    right = int(x + 0.8 * side)
    assert torch.equal(frame[:, :, right:], wide[0, :, :, right:])
    assert not torch.equal(frame, wide[0])


def test_batches_draw_the_same_frames_and_codes_move_them(networks, source):
    one, three = (ImplicitRenderer(networks, crop=True, batch=n) for n in (1, 3))
    rows = one.portrait(source).reference.repeat(5, 1)
    rows[:, 3] += torch.linspace(-0.5, 0.5, 5)
    singly, together = (drawn(renderer, renderer.portrait(source), rows) for renderer in (one, three))
    assert singly.shape == (5, 3, 64, 64)
    assert (singly.int() - together.int()).abs().max() <= 1
    assert not torch.equal(singly[0], singly[4])
    with pytest.raises(InputError, match="1 frame or more"):
        ImplicitRenderer(networks, batch=0)


def test_a_driver_is_followed_relatively_or_as_it_is(networks, source, tmp_path, monkeypatch):
    monkeypatch.setattr(ifmdm, "networks", lambda _weights, _device: networks)
    other = ImplicitRenderer(networks).portrait(source.flip(3))
    with torch.inference_mode():
        own = next(iter(ImplicitRenderer(networks).follow(source)))
    picture = load_system("if-mdm", driving=DEMO, weights=tmp_path)
    heard = list(picture.audio_encoder.features(picture.clock, [torch.zeros(640 * 3)]))
    with torch.inference_mode():
        rows = torch.cat([d.motion.rows for d in picture.generator.drives(other, heard, seed=0)])
    torch.testing.assert_close(rows, own.expand(3, -1))

    def follow(_self, _pictures):
        yield torch.full((1, 20), 0.1)
        yield torch.full((1, 20), 0.3)

    monkeypatch.setattr(ImplicitRenderer, "follow", follow)
    for relative, last in ((True, other.reference[0] + 0.2), (False, torch.full((20,), 0.3))):
        (tmp_path / "film.mp4").write_bytes(b"film")
        tracked = ifmdm.TrackedCodes(tmp_path / "film.mp4", ImplicitRenderer(networks), relative=relative)
        monkeypatch.setattr(ifmdm, "read_video", lambda *_a, **_k: iter(()))
        made = torch.cat([d.motion.rows for d in tracked.drives(other, heard, seed=0)])
        torch.testing.assert_close(made[1], last)
        torch.testing.assert_close(made[2], last)  # held when the driver has ended


def test_codes_of_a_recording_are_read_and_kept(networks, tmp_path, monkeypatch):
    from vivavoce.data import codes
    from vivavoce.data.clips import Recording
    from vivavoce.data.prepare import Prepared

    frames = torch.randint(0, 255, (5, 3, 200, 200), dtype=torch.uint8)
    monkeypatch.setattr(codes, "read_video", lambda *_a: iter(frames))
    landmarks = np.random.default_rng(0).uniform(60, 140, (5, 478, 3)).astype(np.float32)
    rows, valid = np.zeros((5, 48), np.float32), np.array([True, True, False, True, True])
    clip = Prepared("c", "s", "train", "talking", "none", landmarks, rows, valid, np.zeros(0, np.float32))
    recording = Recording(tmp_path / "c.mp4", "talking", "train", "s", "none", 0)
    told = []
    for _ in range(2):  # the second time nothing is left to do
        extract([(recording, clip)], ImplicitRenderer(networks), tmp_path, told.append)
    assert told == ["c: 5 frames"]
    found = load(tmp_path / "c.npz")
    assert found.codes.shape == (5, 20)
    assert found.speaker == "s"
    assert found.valid.tolist() == valid.tolist()
    assert not np.allclose(found.codes[0], found.codes[1])
    (tmp_path / "x.npz").write_bytes(b"no")
    with pytest.raises(InputError, match="no motion codes"):
        load(tmp_path / "x.npz")


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="power of two"):
        Lia(LiaConfig(size=100))
    with pytest.raises(ValueError, match="orthogonal directions"):
        Lia(replace(LiaConfig(), multiplier=0.02))


def test_detail_that_networks_cannot_see_is_the_portraits(networks, source):
    lia = Lia(networks.config)
    start_as_source(lia)  # and moves nothing
    for level in lia.synthesis.levels:
        for conv in (level.flow.tell, level.flow.local):
            torch.nn.init.zeros_(conv.weight)
    lia = lia.plain()
    large, own = (ImplicitRenderer(lia, crop=True, size=side) for side in (256, 64))
    portrait = large.portrait(source)
    assert portrait.cache["detail"].shape == (256, 256, 3)
    shown = drawn(large, portrait, portrait.reference)[0].float()
    coarse = torch.nn.functional.interpolate(
        drawn(own, own.portrait(source), portrait.reference).float(), 256, mode="bicubic"
    )[0]
    square = Square(*portrait.cache["squares"][0].tolist())
    true = torch.from_numpy(upright.cut(image(source[0]), square, 256)).movedim(-1, 0).float()
    fine = [finer(one.movedim(0, -1).clamp(0, 255).byte().numpy(), 64)[64:192, 64:192] for one in (true, shown, coarse)]
    alike = [np.corrcoef(fine[0].ravel(), one.ravel())[0, 1] for one in fine[1:]]
    assert alike[0] > 0.7  # the grid of LIA stretches pictures by one pixel in 64
    assert alike[1] < 0.5
