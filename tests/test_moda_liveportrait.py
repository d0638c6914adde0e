from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from keypoint_weights import write_toy

from vivavoce import registry
from vivavoce.errors import InputError
from vivavoce.importing.checkpoints import publish
from vivavoce.media.read import read_image
from vivavoce.motion.space import KEYPOINT
from vivavoce.motion.windows import LIP_NUMBERS, NAME, SYSTEM, KeypointFlow
from vivavoce.nets.mmdit import full
from vivavoce.speech.encoder import CHANNELS
from vivavoce.systems.driven import driven

PORTRAIT = Path(__file__).parents[1] / "assets" / "demo_portrait.jpg"


def write_flow(folder: Path, audio: int = len(CHANNELS)) -> None:
    """A small generator, drawn at random, that hears our own encoder."""
    torch.manual_seed(0)
    flow = KeypointFlow(replace(full(audio=audio), width=16, heads=2, four=1, two=1, one=1))
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    flow.std.fill_(0.05)
    flow.mean[63] = 1.0
    publish(folder, NAME, flow.state_dict(), "# Toy\n", system=SYSTEM, config=asdict(flow.net.config))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("weights")
    write_flow(made)
    return write_toy(made)


def talk(seconds=2.0):
    t = torch.arange(int(16_000 * seconds)) / 16_000
    return [0.2 * torch.sin(2 * torch.pi * 180 * t) * (torch.sin(2 * torch.pi * 3 * t) > 0)]


def test_a_portrait_speaks(folder):
    system = registry.load(SYSTEM, weights=folder, speech="phones", emotion="happiness", steps=2)
    clips = list(system.stream(read_image(PORTRAIT), talk(0.4)))
    frames = torch.cat([clip.rgb for clip in clips])
    assert len(frames) == 10
    assert frames.shape[1:] == (3, *read_image(PORTRAIT).shape[2:])
    assert (frames[0] != frames[9]).any()


def test_any_chunking_of_the_sound_gives_the_same_video(folder):
    system = registry.load(SYSTEM, weights=folder, speech="phones", steps=2, crop=True, size=64)
    portrait, whole = system.portrait(read_image(PORTRAIT)), talk(0.5)
    pieces = list(whole[0].split([1, 999, 2000, 5000]))
    first = torch.cat([clip.rgb for clip in system.stream(portrait, whole)])
    assert len(first) == 13
    assert torch.equal(first, torch.cat([clip.rgb for clip in system.stream(portrait, pieces)]))


def test_the_first_frame_needs_no_more_sound_than_said(folder):
    system = registry.load(SYSTEM, weights=folder, speech="phones", steps=2, crop=True, size=64)
    portrait, pulled = system.portrait(read_image(PORTRAIT)), 0

    def endless():
        nonlocal pulled
        while True:
            pulled += 1
            yield torch.zeros(640)

    next(iter(islice(system.stream(portrait, endless()), 1)))
    assert pulled <= system.latency


def test_options_change_what_they_name(folder):
    def rows(**options):
        system = registry.load(SYSTEM, weights=folder, speech="phones", steps=2, **options)
        portrait = system.portrait(read_image(PORTRAIT))
        features = system.audio_encoder.features(system.clock, talk())
        with torch.inference_mode():
            return torch.cat([d.motion.rows for d in system.generator.drives(portrait, features, seed=0)])

    plain = rows()
    changes = {"emotion": "anger", "guidance_audio": 4.0, "lip_emphasis": False, "gaze": (10.0, 0.0)}
    for name, value in changes.items():
        assert not torch.equal(plain, rows(**{name: value})), name
    strong = rows(emotion="anger", guidance_emotion=2.4)
    assert not torch.equal(rows(emotion="anger"), strong)
    assert torch.equal(rows(emotion="anger", emotion_strength=2.0), strong)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "no speech model"),
        ({"speech": "nowhere"}, "there is no speech model folder"),
        ({"speech": "phones", "emotion": "hrmpf"}, "there is no emotion"),
        ({"speech": "phones", "steps": 0}, "1 step or more"),
    ],
)
def test_what_cannot_be_is_refused(folder, options, says):
    with pytest.raises(InputError, match=says):
        registry.load(SYSTEM, weights=folder, **options)


def test_parts_that_do_not_fit_each_other_are_refused(tmp_path):
    write_flow(tmp_path, audio=7)
    with pytest.raises(InputError, match="gives 130 numbers a frame, but the motion generator was trained on 7"):
        registry.load(SYSTEM, weights=write_toy(tmp_path), speech="phones")
    with pytest.raises(InputError, match="vivavoce import moda"):
        registry.load(SYSTEM, weights=tmp_path / "nowhere", speech="phones")


def test_a_driver_leads_the_head_and_speech_the_lips(folder):
    system = registry.load(SYSTEM, weights=folder, speech="phones", steps=2)
    portrait = system.portrait(read_image(PORTRAIT))

    def rows(talker):
        features = talker.audio_encoder.features(talker.clock, talk(0.4))
        with torch.inference_mode():
            return torch.cat([d.motion.rows for d in talker.generator.drives(portrait, features, seed=0)])

    free, led = rows(system), rows(driven(system, PORTRAIT, ("pose",)))
    seen = next(iter(system.renderer.follow(read_image(PORTRAIT))))
    rotation = KEYPOINT.slice("rotation")
    torch.testing.assert_close(led[:, rotation], seen[:, rotation].expand(len(led), -1))
    assert not torch.equal(free[:, rotation], led[:, rotation])
    torch.testing.assert_close(led[:, LIP_NUMBERS], free[:, LIP_NUMBERS])


def test_a_driver_without_a_face_is_refused(folder):
    follow = registry.load(SYSTEM, weights=folder, speech="phones", steps=2).renderer.follow
    with pytest.raises(InputError, match="no face was found"):
        next(iter(follow(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))))
