"""Measures of pictures that need no model and no torch."""

import math

import numpy as np
from PIL import Image


def psnr(first: Image.Image, second: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of two RGB pictures of one size in dB; infinite for equal pictures."""
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    error = float(np.square(difference).mean())
    return 10 * math.log10(255.0**2 / error) if error else math.inf
