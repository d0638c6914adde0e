"""A film runs there and back again, and a stretch of it can be read from anywhere."""

from fractions import Fraction
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vivavoce.errors import InputError
from vivavoce.media import reel as reels
from vivavoce.media.film import read_video
from vivavoce.media.reel import Reel
from vivavoce.media.write import write_video
from vivavoce.system import Clip
from vivavoce.timeline import Clock, Span

FRAMES = 40


def number(picture: torch.Tensor) -> int:
    """Which frame of :func:`film` it is."""
    return round(float(picture.float().mean()) / 6)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """Frame n is grey 6 n."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    rgb = (torch.arange(FRAMES, dtype=torch.uint8) * 6)[:, None, None, None].expand(-1, 3, 48, 64)
    write_video(path, [Clip(Span(0, FRAMES), rgb.clone(), torch.zeros(FRAMES * 640))], Clock())
    return path


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.integers(0, FRAMES + 5))
def test_reading_may_start_anywhere(film, first):
    assert [number(p) for p in read_video(film, first=first)] == list(range(first, FRAMES))


@pytest.mark.parametrize("held", [1, 7, 1000])
def test_a_reel_runs_there_and_back(film, held, monkeypatch):
    monkeypatch.setattr(reels, "HELD_BYTES", held * 3 * 48 * 64)
    turn = [*range(FRAMES), *range(FRAMES - 2, 0, -1)]
    shown = [number(p) for p in islice(Reel(film).pictures(), 2 * len(turn) + 3)]
    assert shown == [*turn, *turn, 0, 1, 2]


def test_another_rate_starts_where_the_file_does(film):
    slow = [number(p) for p in Reel(film, Fraction(5)).once()]
    assert slow == [2, 7, 12, 17, 22, 27, 32, 37]
    assert [number(p) for p in read_video(film, 5, first=3)] == slow[3:]


def test_what_is_no_film_is_refused(tmp_path):
    (tmp_path / "no.mp4").write_text("no film")
    with pytest.raises(InputError, match="cannot be read"):
        next(Reel(tmp_path / "no.mp4").pictures())
    with pytest.raises(InputError, match="there is no file"):
        next(Reel(tmp_path / "missing.mp4").pictures())
