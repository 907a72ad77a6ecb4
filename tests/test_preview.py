"""The picture of a set while it is distilled."""

import io

import numpy as np
import pytest
from PIL import Image

from rcig.run.preview import CAPTION, picture


@pytest.mark.parametrize(("side", "channels", "factor"), [(28, 1, 2), (32, 3, 2), (128, 3, 1)])
def test_images_stand_in_rows_of_ten_enlarged_by_a_whole_factor(side: int, channels: int, factor: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, side, side, channels), dtype=np.uint8)
    sheet = np.asarray(Image.open(io.BytesIO(picture(pixels, "step 200: held-out accuracy 84.3 %"))))
    cell = factor * side
    assert sheet.shape == (2 * cell + CAPTION, 10 * cell, 3)
    for i, image in enumerate(pixels):
        top, left = i // 10 * cell, i % 10 * cell
        shown = sheet[top : top + cell : factor, left : left + cell : factor]
        np.testing.assert_array_equal(shown, np.broadcast_to(image, (side, side, 3)))
    assert sheet[2 * cell :].min() < 100, "something is written below"
