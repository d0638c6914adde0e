"""Drives with what is heard around every frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vivavoce.motion.space import FACE_MESH, Motion, MotionSpace
from vivavoce.motion.surrounded import Surrounded
from vivavoce.system import Drive, Features, MotionGenerator, Portrait
from vivavoce.timeline import Span

PORTRAIT = Portrait(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.zeros(1, 48), {})


@dataclass(frozen=True)
class Echo:
    """Three frames at a time, two ahead, like a generator of its own."""

    space: MotionSpace = FACE_MESH
    audio_dim: int = 2
    hop: int = 3
    lookahead: int = 2

    def drives(self, portrait: Portrait, features: Iterable[Features], *, seed: int) -> Iterator[Drive]:
        held, at = torch.zeros(0, 2), 0
        for one in features:
            held = torch.cat([held, one.rows])
            while len(held) - at >= self.hop + self.lookahead:
                yield self._drive(held, at, self.hop)
                at += self.hop
        while at < len(held):
            count = min(self.hop, len(held) - at)
            yield self._drive(held, at, count)
            at += count

    def _drive(self, held: torch.Tensor, at: int, count: int) -> Drive:
        return Drive(Motion(Span(at, at + count), FACE_MESH, torch.zeros(count, 48)), held[at : at + count])


def rows(frames: int) -> torch.Tensor:
    return torch.stack([1.0 + torch.arange(frames), -torch.arange(frames).float()], 1)


def given_in(sizes: list[int]) -> Iterator[Features]:
    at, whole = 0, rows(sum(sizes))
    for size in sizes:
        yield Features(Span(at, at + size), whole[at : at + size])
        at += size


@given(st.lists(st.integers(1, 7), min_size=1, max_size=8), st.integers(0, 5), st.integers(0, 6))
@settings(deadline=None, max_examples=60)
def test_every_frame_brings_its_surroundings(sizes, before, after):
    around = Surrounded(Echo(), before, after)
    total = sum(sizes)
    padded = torch.cat([torch.zeros(before, 2), rows(total), torch.zeros(after, 2)])
    at = 0
    for drive in around.drives(PORTRAIT, given_in(sizes), seed=7):
        assert drive.motion.span.start == at
        heard = around.heard(drive.audio)
        for frame in heard.rows:
            assert torch.equal(frame, padded[at : at + before + 1 + after])
            at += 1
    assert at == total


def test_no_more_is_pulled_than_is_declared():
    around = Surrounded(Echo(), 4, 5)
    pulled = 0

    def drip() -> Iterator[Features]:
        nonlocal pulled
        for one in given_in([1] * 30):
            pulled += 1
            yield one

    assert isinstance(around, MotionGenerator)
    drives = around.drives(PORTRAIT, drip(), seed=0)
    for n in range(3):
        next(drives)
        assert pulled == around.hop * (n + 1) + around.lookahead
    assert Surrounded(Echo(), 4, 1).lookahead == 2  # the generator's own


@given(st.lists(st.integers(1, 7), min_size=1, max_size=8), st.integers(0, 4), st.integers(0, 6))
@settings(deadline=None, max_examples=40)
def test_what_is_not_waited_for_is_as_the_last_that_is(sizes, waits, after):
    around, whole = Surrounded(Echo(), 2, after, waits), Surrounded(Echo(), 2, min(waits, after))
    assert around.lookahead == whole.lookahead == max(2, min(waits, after))
    found, short = (
        torch.cat([one.heard(drive.audio).rows for drive in one.drives(PORTRAIT, given_in(sizes), seed=7)])
        for one in (around, whole)
    )
    assert found.shape[1] == 2 + 1 + after
    assert torch.equal(found[:, : short.shape[1]], short)
    assert torch.equal(found[:, short.shape[1] :], short[:, -1:].expand(-1, after - min(waits, after), -1))


@pytest.mark.parametrize(("one", "two"), [(1, 2), (3, 3 + 2**33)])
def test_the_key_follows_from_the_seed(one, two):
    around = Surrounded(Echo(), 1, 1)
    keys = [around.heard(next(around.drives(PORTRAIT, given_in([9]), seed=seed)).audio).key for seed in (one, two, one)]
    assert keys[0] == keys[2] != keys[1]
