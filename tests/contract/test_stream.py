"""The contract of ``System.stream``; every registered system must pass this file unchanged."""

from __future__ import annotations

import gc
import io
import random
import threading
import time
import weakref
from contextlib import closing
from dataclasses import replace

import av
import pytest
import torch

from vivavoce.media.write import write_video
from vivavoce.motion.space import MotionSpace, Part
from vivavoce.session import Session
from vivavoce.streams import Background, Closed
from vivavoce.system import Clip, Frames, System
from vivavoce.timeline import Span

FRAME = 640  # samples
AAC = 1024  # samples of a block of the sound encoder


def cut(pcm, rng):
    """Pieces of any length, from one sample to more than a second."""
    at = 0
    while at < len(pcm):
        size = rng.choice([1, 17, 160, 320, 640, 5000, 24_000])
        yield pcm[at : at + size]
        at += size


def pictures(clips):
    return torch.cat([clip.rgb for clip in clips])


def test_any_chunking_gives_the_same_video(subject, speech):
    pcm = speech(38, extra=123)
    whole = list(subject.stream([pcm], seed=5))
    assert len(pictures(whole)) == 39  # the last, partial frame is shown
    for trial in range(2):
        parts = list(subject.stream(cut(pcm, random.Random(trial)), seed=5))
        assert [clip.span for clip in parts] == [clip.span for clip in whole]
        for a, b in zip(parts, whole, strict=True):
            assert torch.equal(a.rgb, b.rgb)
            assert torch.equal(a.pcm, b.pcm)


def test_the_picture_moves_and_the_seed_decides_how(subject, speech):
    one = pictures(subject.stream([speech(20)], seed=1))
    assert not torch.equal(one[0], one[-1])
    other = pictures(subject.stream([speech(20)], seed=2))
    assert torch.equal(one, other) != subject.hears


def test_every_clip_carries_its_own_sound(subject, speech):
    pcm = speech(30)
    clips = list(subject.stream([pcm]))
    assert torch.equal(torch.cat([clip.pcm for clip in clips]), pcm)
    assert all(len(clip.pcm) == FRAME * len(clip.span) == FRAME * len(clip.rgb) for clip in clips)
    assert [clip.span.start for clip in clips[1:]] == [clip.span.stop for clip in clips[:-1]]
    assert clips[0].span.start == 0


def test_latency_is_what_is_declared(subject, speech):
    given = 0

    def drip():
        nonlocal given
        for frame in speech(75).split(FRAME):
            given += 1
            yield frame

    clips = subject.stream(drip())
    first = next(clips)
    assert given == subject.system.latency
    assert len(first.span) <= subject.system.generator.hop
    assert given <= 15  # 0.6 s
    clips.close()


def test_the_future_beyond_the_lookahead_is_not_used(subject, speech):
    if not subject.hears:
        pytest.skip("its motion does not depend on the sound")
    cut_at = max(30, subject.system.latency + 6)
    pcm = speech(cut_at + 15)
    changed = pcm.clone()
    changed[cut_at * FRAME :] = 0
    horizon = cut_at - subject.system.latency
    a, b = (pictures(subject.stream([p])) for p in (pcm, changed))
    assert torch.equal(a[: horizon + 1], b[: horizon + 1])
    assert not torch.equal(a, b)


def test_memory_does_not_grow_with_the_video(subject):
    alive: set[int] = set()
    peak = 0
    drip = (torch.zeros(FRAME) for _ in range(75))
    for clip in subject.stream(drip):
        key = id(clip.rgb)
        alive.add(key)
        weakref.finalize(clip.rgb, alive.discard, key)
        peak = max(peak, len(alive))
        del clip
        gc.collect(0)
    assert peak <= 3


def test_sound_is_let_go_once_it_is_shown(subject):
    """Every chunk of sound can be freed soon after its frames are out."""
    held: set[int] = set()
    peak = 0

    def drip():
        for index in range(75):
            chunk = torch.zeros(FRAME)
            held.add(index)
            weakref.finalize(chunk, held.discard, index)
            yield chunk

    for _ in subject.stream(drip()):
        gc.collect(0)
        peak = max(peak, len(held))
    assert peak <= 2 * subject.system.latency + subject.system.generator.hop


def test_the_caller_keeps_its_own_grad_mode(subject, speech):
    clips = subject.stream([speech(25)])
    clip = next(clips)
    assert clip.rgb.is_inference()
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    clips.close()
    assert torch.is_grad_enabled()


def test_a_prepared_portrait_gives_the_same_video(subject, speech, portrait_photo):
    prepared = next(subject.stream([speech(20)]))
    fresh = next(subject.system.stream(portrait_photo, [speech(20)]))
    assert torch.equal(prepared.rgb, fresh.rgb)


def test_wrong_parts_are_refused_by_name(subject):
    good = subject.system
    other = replace_space(good.renderer)
    with pytest.raises(ValueError, match=f"writes '{good.generator.space.name}' but the renderer reads 'other/1'"):
        System("mixed", good.clock, good.audio_encoder, good.generator, other)


def replace_space(renderer):
    class Other:
        space = MotionSpace("other/1", (Part("all", "latent", (3,)),))
        portrait = renderer.portrait
        frames = renderer.frames

    return Other()


@pytest.mark.parametrize("fragment", [False, True])
def test_muxed_video_is_in_sync(subject, speech, tmp_path, fragment):
    target = io.BytesIO() if fragment else tmp_path / "out.mp4"
    written = write_video(target, subject.stream([speech(30, extra=300)]), subject.system.clock, fragment=fragment)
    assert written.frames == 31

    def opened():
        if isinstance(target, io.BytesIO):
            target.seek(0)
            return av.open(target)
        return av.open(str(target))

    with opened() as box:
        shown = sum(1 for _ in box.decode(video=0))
    with opened() as box:
        heard = sum(frame.samples for frame in box.decode(audio=0))
    assert shown == 31
    assert abs(heard - 31 * FRAME) <= 2 * AAC


def test_a_session_is_the_same_video(subject, speech):
    pcm = speech(30)
    with closing(Session(subject.system, subject.portrait, inbox=1000)) as session:
        for part in pcm.split(777):
            session.push(part)
        session.finish()
        live = pictures(session)
    assert torch.equal(live, pictures(subject.stream([pcm])))


def test_an_interrupted_session_stops_within_one_clip(subject, speech):
    before = threading.active_count()
    asked, drawn = threading.Event(), []

    class Watched:
        space = subject.system.renderer.space
        portrait = subject.system.renderer.portrait

        def frames(self, portrait, drives):
            for frames in subject.system.renderer.frames(portrait, drives):
                if asked.is_set():
                    drawn.append(frames.span)
                yield frames

    session = Session(replace(subject.system, renderer=Watched()), subject.portrait)
    for part in speech(75).split(6400):
        session.push(part)
    assert isinstance(next(iter(session)), Clip)
    asked.set()
    session.close()
    assert len(drawn) <= 1
    assert threading.active_count() <= before
    with pytest.raises(Closed):
        session.push(speech(1))


def test_a_slow_reader_holds_back_the_pusher(subject):
    with closing(Session(subject.system, subject.portrait, ahead=1, inbox=4)) as session:
        pushed = 0

        def push():
            nonlocal pushed
            try:
                while True:
                    session.push(torch.zeros(FRAME))
                    pushed += 1
            except Closed:
                pass

        thread = threading.Thread(target=push)
        thread.start()
        last, still = -1, 0
        while still < 10:  # nobody reads: after a while nothing is accepted any more
            time.sleep(0.1)
            still = still + 1 if pushed == last else 0
            last = pushed
        assert 0 < pushed < 100
    thread.join(2)
    assert not thread.is_alive()


def test_an_error_in_a_stage_reaches_the_consumer(subject, speech):
    class Broken:
        space = subject.system.renderer.space
        portrait = subject.system.renderer.portrait

        def frames(self, portrait, drives):
            for drive in drives:
                if drive.motion.span.start:
                    raise RuntimeError("the renderer fell over")
                yield Frames(drive.motion.span, torch.zeros(len(drive.motion.span), 3, 2, 2, dtype=torch.uint8))

    broken = replace(subject.system, renderer=Broken())
    with closing(Background(broken.stream(subject.portrait, [speech(50)]))) as clips:
        shown = []
        with pytest.raises(RuntimeError, match="fell over"):
            shown.extend(clips)
    with closing(Session(broken, subject.portrait, inbox=1000)) as session:
        session.push(speech(50))
        session.finish()
        with pytest.raises(RuntimeError, match="fell over"):
            list(session)


def test_an_error_in_the_sound_reaches_the_consumer(subject):
    def sound():
        yield torch.zeros(FRAME)
        raise OSError("the microphone was unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(subject.stream(sound()))


def test_two_streams_of_one_system_do_not_disturb_each_other(subject, speech):
    alone = pictures(subject.stream([speech(25)]))
    one, two = subject.stream([speech(25)]), subject.stream([speech(25).flip(0)], seed=9)
    mixed = []
    for clip in one:
        mixed.append(clip)
        next(two, None)
    assert torch.equal(pictures(mixed), alone)


def test_no_sound_gives_no_frames(subject):
    assert list(subject.stream([])) == []


def test_spans_are_checked():
    with pytest.raises(Exception, match="rgb"):
        Frames(span=Span(0, 2), rgb=torch.zeros(2, 3, 4, 4))  # float where uint8 is promised
