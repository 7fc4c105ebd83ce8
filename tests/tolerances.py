"""Tolerances (rtol, atol) per dtype for two computations of the same quantity. Exceptions state their reason."""

import torch

TOLERANCES: dict[torch.dtype, tuple[float, float]] = {
    torch.float32: (1e-4, 1e-5),
    torch.float16: (1e-2, 2e-3),
    torch.bfloat16: (5e-2, 3e-2),  # 8 bits of mantissa, rounded once per layer of a UNet
}


def assert_close(actual: torch.Tensor, expected: torch.Tensor, *, dtype: torch.dtype | None = None) -> None:
    """Compare in float32 with the tolerance of ``dtype``, which defaults to that of ``expected``."""
    rtol, atol = TOLERANCES[dtype or expected.dtype]
    torch.testing.assert_close(actual.float(), expected.float(), rtol=rtol, atol=atol)
