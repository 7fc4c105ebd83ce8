"""Speed of spectral shifts: ``python -m bench.svdiff [--only steps|cache|layers]``.

Steps: complete training steps of our loop on the embedded base with our shifts, with shifts rebuilt densely in every
forward pass as in svdiff-pytorch's layers (:mod:`bench.dense_rebuild`), and with a rank-4 LoRA. They are timed
alternately and compared within each round, so that load on the machine affects all of them equally.

Cache: time from a loaded base to injected shifts, with the SVDs computed (cold) or read from disk (warm).

Layers: SD 1.5's layer sizes without its weights. Each distinct Linear and Conv2d of its UNet runs forward and backward
on an input of its usual shape, multiplied by the number of occurrences. Norms, attention products and activations are
the same for all variants and left out. The weights are random with singular values from 1 to 0.01, which allows the
one-sided form; ``--ill`` makes them ill-conditioned, which rules it out.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from bench.dense_rebuild import DenseRebuild, forward
from bench.step import WARM_UP, random_moments, seconds_of
from pipelines.adapters.core import Adapter
from pipelines.adapters.lora import LoRA
from pipelines.adapters.spectral import FORWARDS, Shift, Spectral, chosen_form
from pipelines.adapters.svd_cache import Factors, matrix
from pipelines.config import ASSETS, SVDiffConfig
from pipelines.data.subject import Subject
from pipelines.methods.subject import batches, loss
from pipelines.models.base import load_base
from pipelines.training.loop import train

RANK = 4
FASTER_FLOOR, FASTER_GOAL = 2.0, 4.0  # times as fast as the dense rebuild
LORA_FLOOR, LORA_GOAL = 1.6, 1.3  # times a LoRA step
CACHE_FLOOR = 10.0
ADAPTERS: dict[str, Callable[[int], Adapter]] = {
    "ours": lambda size: Spectral(batch=size),
    "dense": lambda size: DenseRebuild(),
    "lora": lambda size: LoRA(rank=RANK),
}


# ---- whole steps on the embedded base -------------------------------------------------------------------------------


def steps_of(name: str, *, batch_size: int, rounds: int) -> Iterator[object]:
    """Yield the steps of a run with one of ``ADAPTERS`` on four noise images and 64 class images."""
    base = load_base()
    config = SVDiffConfig(
        prior_preservation=True, steps=rounds + WARM_UP + 1, batch_size=batch_size, learning_rate=1e-4
    )
    subject = Subject(
        identifier="sks",
        class_noun="person",
        moments=random_moments(base, 4),
        captions=("",) * 4,
        names=("",) * 4,
        class_moments=random_moments(base, 64),
    )
    adapter = ADAPTERS[name](2 * batch_size).inject(base)
    draw = batches(base, [subject], config)
    yield from train(base, adapter, draw, loss, config)


def step_row(batch_size: int, *, rounds: int) -> dict[str, float]:
    """Return median times in ms, and the medians over the rounds of dense / ours and ours / lora."""
    steps = {name: steps_of(name, batch_size=batch_size, rounds=rounds) for name in ADAPTERS}
    times: dict[str, list[float]] = {name: [] for name in steps}
    orders = itertools.cycle(itertools.permutations(steps))
    for index in range(rounds + WARM_UP):
        for name in next(orders):
            seconds = seconds_of(lambda name=name: next(steps[name]))
            if index >= WARM_UP:
                times[name].append(seconds)
    return row_of(times)


def row_of(times: dict[str, list[float]]) -> dict[str, float]:
    """Return the medians in ms, and the medians of the ratios within each round."""
    medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    for one, other in (("dense", "ours"), ("ours", "lora")):
        ratios = [first / second for first, second in zip(times[one], times[other], strict=True)]
        medians[f"{one} / {other}"] = statistics.median(ratios)
    return medians


# ---- the cache ------------------------------------------------------------------------------------------------------


def cache_row(*, rounds: int) -> dict[str, float]:
    """Return the seconds from a loaded base to injected shifts, cold and warm (median of ``rounds``)."""
    base = load_base()
    base.encode_prompts(["warm"])
    before = os.environ.get("ATELIER_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ATELIER_HOME"] = folder
        try:
            times = []
            for _ in range(rounds + 1):
                adapter = Spectral(text_encoder=True)
                started = time.perf_counter()
                adapter.inject(base)
                times.append(time.perf_counter() - started)
                adapter.remove()
        finally:
            os.environ.pop("ATELIER_HOME")
            if before is not None:
                os.environ["ATELIER_HOME"] = before
    cold, warm = times[0], statistics.median(times[1:])
    return {"cold": cold, "warm": warm, "cold / warm": cold / warm}


# ---- the layers of SD 1.5 -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A group of layers with the same cost: their type, geometry and input shape."""

    build: Callable[..., nn.Module]
    arguments: tuple[int | tuple[int, ...], ...]
    input_shape: tuple[int, ...]
    attention: bool  # whether an attention LoRA targets these layers

    @property
    def tokens(self) -> int:
        """Number of positions that the layer processes, over the whole batch."""
        whole = torch.Size(self.input_shape).numel()
        return whole // (self.input_shape[1] if self.build is nn.Conv2d else self.input_shape[-1])


def kinds(batch_size: int, *, side: int = 64) -> Counter[Kind]:
    """Count each kind of Linear and Conv2d in SD 1.5's UNet on (B, 4, side, side) latents."""
    config = json.loads((ASSETS / "sd1_config" / "unet" / "config.json").read_text())
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
        latents, context = torch.empty(batch_size, 4, side, side), torch.empty(batch_size, 77, 768)
        found: Counter[Kind] = Counter()
        for path, layer in unet.named_modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                layer.register_forward_pre_hook(_counter(found, path))
        with torch.no_grad():
            unet(latents, torch.zeros(batch_size), context)
    return found


def _counter(found: Counter[Kind], path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(layer, nn.Linear):
            arguments: tuple[int | tuple[int, ...], ...] = (layer.in_features, layer.out_features)
        else:
            assert isinstance(layer, nn.Conv2d)
            geometry = (layer.kernel_size, layer.stride, layer.padding)
            arguments = (layer.in_channels, layer.out_channels, *geometry)  # type: ignore[assignment]
        attention = ".attn1." in path or ".attn2." in path
        found[Kind(type(layer), arguments, tuple(inputs[0].shape), attention)] += 1

    return note


def layer_works(kind: Kind, *, device: str, ill: bool) -> dict[str, Callable[[], None]]:
    """Return forward + backward of one layer: "frozen", with a LoRA if it is a target, ours, rebuilt densely."""
    layer = kind.build(*kind.arguments).requires_grad_(False).to(device)
    x = torch.randn(kind.input_shape, device=device).requires_grad_(True)
    factors = _random_factors(layer.get_parameter("weight"), ill=ill)
    form = chosen_form(layer, layer.get_parameter("weight"), factors, tokens=kind.tokens)
    shift = Shift(layer, nn.Parameter(torch.zeros_like(factors.values)), form, factors)
    delta = nn.Parameter(torch.zeros_like(factors.values))
    forwards: dict[str, Callable[[], Tensor]] = {
        "frozen": lambda: layer(x),
        "lora": _with_lora(layer, x) if kind.attention else lambda: layer(x),
        "ours": lambda: ours(shift, x),
        "dense": lambda: forward(layer, factors, delta, x),
    }
    with torch.no_grad():
        gradient = torch.randn_like(layer(x))

    def both(compute: Callable[[], Tensor]) -> None:
        compute().backward(gradient)
        x.grad = shift.parameter.grad = delta.grad = None
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return {name: lambda compute=compute: both(compute) for name, compute in forwards.items()}


def _random_factors(weight: Tensor, *, ill: bool) -> Factors:
    rows, columns = matrix(weight).shape
    size = min(rows, columns)
    values = torch.linspace(1.0, 1e-5 if ill else 0.01, size, device=weight.device)
    left, right = (
        torch.randn(rows, size, device=weight.device),
        torch.randn(size, columns, device=weight.device),
    )
    return Factors(left / rows**0.5, values, right / columns**0.5)


def ours(shift: Shift, x: Tensor) -> Tensor:
    """Run one layer in its selected form, with its factor computed from the shifts as in ``materialise``."""
    assert shift.factors is not None
    values, weight = shift.factors.values, shift.layer.get_parameter("weight")
    gain = F.relu(values + shift.parameter) - values
    if shift.form == "rebuild":
        change = (shift.factors.left * gain) @ shift.factors.right
        return torch.func.functional_call(
            shift.layer, {"weight": weight + change.view(weight.shape)}, (x,), strict=False
        )
    shift.gain = gain / values if shift.form in ("output", "input") else gain
    return FORWARDS[shift.form](shift, x)


def _with_lora(layer: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    weight = layer.get_parameter("weight")
    down = nn.Parameter(torch.randn(RANK, weight.shape[1], device=weight.device))
    up = nn.Parameter(torch.zeros(weight.shape[0], RANK, device=weight.device))

    def compute() -> Tensor:
        down.grad = up.grad = None
        return layer(x) + F.linear(F.linear(x, down), up)

    return compute


def layer_row(
    batch_size: int, *, rounds: int, device: str, ill: bool, side: int = 64, most: int | None = None
) -> dict[str, float]:
    """Return the ms of all layers of a UNet, and the ratios of the sums; ``most`` limits the kinds, for a trial."""
    totals = dict.fromkeys(("frozen", "lora", "ours", "dense"), 0.0)
    counted = kinds(batch_size, side=side)
    for kind, count in itertools.islice(counted.items(), most):
        works = layer_works(kind, device=device, ill=ill)
        times: dict[str, list[float]] = {name: [] for name in works}
        for index in range(rounds + 1):
            for name, work in works.items():
                seconds = seconds_of(work)
                if index:
                    times[name].append(seconds)
        for name, values in times.items():
            totals[name] += count * statistics.median(values)
    row = {name: 1e3 * seconds for name, seconds in totals.items()}
    return row | {"dense / ours": row["dense"] / row["ours"], "ours / lora": row["ours"] / row["lora"]}


# ---- the tables -----------------------------------------------------------------------------------------------------


def show(title: str, row: dict[str, float]) -> None:
    print(
        f"{title:>26}  {row['dense']:9.1f}  {row['ours']:8.1f}  {row['lora']:8.1f}"
        f"  {row['dense / ours']:9.2f}x  {FASTER_FLOOR:4.1f}  {FASTER_GOAL:4.1f}"
        f"  {row['ours / lora']:8.2f}x  {LORA_FLOOR:4.1f}  {LORA_GOAL:4.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What spectral shifts cost.")
    parser.add_argument("--only", choices=("steps", "cache", "layers"), help="one part alone")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of every part (of layers: a quarter)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="photographs per step")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="of the layers"
    )
    parser.add_argument(
        "--ill", action="store_true", help="layers whose singular values forbid the one-sided form"
    )
    parser.add_argument("--most", type=int, help="only so many kinds of layers, to try it out")
    parser.add_argument("--json", type=Path, help="write the rows here, too")
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, layers on {arguments.device}")
    head = "dense ms   ours ms   lora ms  dense/ours  floor  goal  ours/lora  floor  goal"
    rows: dict[str, dict[str, float]] = {}
    if arguments.only in (None, "steps"):
        print(f"{'a step, photos+class':>26}  {head}")
        for size in arguments.batch:
            row = rows[f"steps {size}"] = step_row(size, rounds=arguments.rounds)
            show(f"embedded base, {size}+{size}", row)
    if arguments.only in (None, "cache"):
        row = rows["cache"] = cache_row(rounds=max(1, arguments.rounds // 4))
        print(
            f"shifts live, embedded base: cold {row['cold']:.2f} s, warm {row['warm']:.3f} s,"
            f" {row['cold / warm']:.1f} times as fast (floor {CACHE_FLOOR:g})"
        )
    if arguments.only in (None, "layers"):
        print(f"{'SD 1.5, its layers alone':>26}  {head}")
        for size in arguments.batch:
            row = rows[f"layers {size}"] = layer_row(
                2 * size,
                rounds=max(1, arguments.rounds // 4),
                device=arguments.device,
                ill=arguments.ill,
                most=arguments.most,
            )
            show(f"{size}+{size}, layer by layer", row)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
