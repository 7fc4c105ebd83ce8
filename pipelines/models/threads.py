"""How many threads a base computes on, decided without a clock so that a seed gives the same bits in every process.

A sum split over another number of threads rounds differently, and a run's adapter then differs in its third digit. A
small base has layers of microseconds, in which waking a second thread takes about as long as its half of the work; one
thread also gives the same run on machines with different numbers of cores.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.models.base import Base

LARGE = 100_000_000  # parameters of a UNet whose layers are worth every core


def threads_for(base: "Base", *, most: int) -> int:
    """Return on how many threads, of ``most``, a base computes on the CPU: one for a small base; the caller sets them."""
    small = sum(each.numel() for each in base.unet.parameters()) <= LARGE
    return 1 if small and base.device.type == "cpu" else most
