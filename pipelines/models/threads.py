"""The number of CPU threads of a base, independent of timing, so that a seed gives bit-exact results in every process.

Another number of threads changes the rounding of sums, and the adapter then differs in its third digit. The layers of a
small base take microseconds, so starting a second thread costs about as much as it saves; with one thread, a run also
gives the same result on machines with different numbers of cores.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.models.base import Base

LARGE = 100_000_000  # parameters of a UNet above which all cores are used


def threads_for(base: "Base", *, most: int) -> int:
    """Return the number of threads for a base: 1 for a small base on the CPU, else ``most``. The caller sets it."""
    small = sum(each.numel() for each in base.unet.parameters()) <= LARGE
    return 1 if small and base.device.type == "cpu" else most
