import numpy as np

from vivavoce.render.detail import finer, laid


def picture(side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(40, 200, (side, side, 3), dtype=np.uint8)


def still(side: int) -> np.ndarray:
    at = ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)
    return np.stack(np.meshgrid(at, at), -1)


def small(sharp: np.ndarray, side: int) -> np.ndarray:
    factor = sharp.shape[0] // side
    return sharp.reshape(side, factor, side, factor, 3).mean((1, 3)).astype(np.float32)


def test_what_stands_still_comes_back_to_the_pixel():
    sharp = picture(32)
    again = laid(small(sharp, 16), still(16), np.ones((16, 16), np.float32), finer(sharp, 16))
    assert np.abs(again.astype(int) - sharp)[2:-2, 2:-2].max() <= 1


def test_detail_moves_with_the_flow():
    sharp = picture(32)
    moved = np.roll(sharp, 4, axis=1)
    flow = still(16) - np.array([2 * 4 / 32, 0], np.float32)
    again = laid(small(moved, 16), flow, np.ones((16, 16), np.float32), finer(sharp, 16))
    assert np.abs(again.astype(int) - moved)[2:-2, 8:-2].max() <= 2


def test_what_is_invented_has_no_detail():
    sharp, painted = picture(32), small(picture(32), 16)
    plain = laid(painted, still(16), np.zeros((16, 16), np.float32), finer(sharp, 16))
    none = laid(painted, still(16), np.ones((16, 16), np.float32), np.zeros((32, 32, 3), np.float32))
    assert np.array_equal(plain, none)
