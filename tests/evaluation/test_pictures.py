"""The peak signal-to-noise ratio of two pictures."""

import math

from PIL import Image

from pipelines.evaluation.pictures import psnr


def test_psnr_of_a_known_error() -> None:
    one, other = Image.new("RGB", (8, 8), (100, 100, 100)), Image.new("RGB", (8, 8), (110, 110, 110))
    assert math.isclose(psnr(one, other), 20 * math.log10(255 / 10), rel_tol=1e-4)
    assert psnr(one, one) == math.inf
