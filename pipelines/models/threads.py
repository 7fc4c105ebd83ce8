"""How many cores a base computes on: more threads are not always faster.

The layers of a small base are over in microseconds, and waking a second thread may take longer than its half of the
work; on a virtual machine two threads can be several times slower than one. So it is measured, once per base.
"""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pipelines.models.base import Base

log = logging.getLogger(__name__)

LARGE = 100_000_000  # parameters of a UNet whose layers are worth every core, and slow to try
GAIN = 1.15  # more threads must be so many times faster, or the others are left to the browser and the page
TRIES = 3


def threads_for(base: "Base", *, most: int) -> int:
    """Return on how many threads, of ``most``, a base computes fastest on the CPU; the caller sets them.

    ``most`` on other devices and for a large base.
    """
    if base.device.type != "cpu" or most == 1 or sum(each.numel() for each in base.unet.parameters()) > LARGE:
        return most
    before = torch.get_num_threads()
    try:
        chosen = fastest(lambda count: _seconds(base, count), most=most)
    finally:
        torch.set_num_threads(before)
    log.info("%s computes on %d of %d threads", base.name, chosen, most)
    return chosen


def fastest(seconds: Callable[[int], float], *, most: int) -> int:
    """Return 1, 2, 4, ... or ``most`` threads: the fewest that twice as many do not beat ``GAIN`` times.

    ``seconds(count)`` is what the work takes with so many.
    """
    best, best_s = 1, seconds(1)
    while best < most:
        more = min(2 * best, most)
        more_s = seconds(more)
        if more_s * GAIN > best_s:
            break
        best, best_s = more, more_s
    return best


def _seconds(base: "Base", count: int) -> float:
    """The shortest of a few predictions with their gradients, as in a step of two pictures, on ``count`` threads."""
    torch.set_num_threads(count)
    side = base.size_px // 8
    noisy = torch.zeros(2, 4, side, side, dtype=base.dtype, requires_grad=True)
    context = base.encode_prompts([""]).to(base.dtype).expand(2, -1, -1)
    timesteps = torch.zeros(2, dtype=torch.long)
    times = []
    for _ in range(TRIES):
        started = time.perf_counter()
        with torch.enable_grad():
            noise_pred = base.unet(noisy, timesteps, context, return_dict=False)[0]
            torch.autograd.grad(noise_pred.sum(), noisy)
        times.append(time.perf_counter() - started)
    return min(times)
