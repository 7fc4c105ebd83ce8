"""The identity space: what a slider, a weight change and an inversion step cost.

    python -m bench.space [--only explorer] [--space faces] [--json FILE]
    python -m bench.space --only sampling [--people 8]
    python -m bench.space --only authors --weights2weights CHECKOUT [--components 1000 10000]

``explorer``: from a slider's release to the picture against the denoising steps it needs plus decoding with the same
LoRA merged; the change of the weights alone, on the space and with random numbers at the authors' size; and a step of
inversion against the same step with a plain LoRA of the same layers. All are timed alternately and compared within each
round. ``sampling``: how alike the pictures of one new person are in four scenes, how alike different people are, and how
new a person is, for each way of sampling and for members of the population. ``authors``: the layer of a checkout of snap-research/weights2weights, which projects again in every layer, with
random numbers at the shapes of Stable Diffusion 1.5, beside ours.
"""

import argparse
import importlib.util
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.step import random_moments
from pipelines.adapters import LoRA, Subspace
from pipelines.adapters.core import Adapter, injected, merged
from pipelines.config import ASSETS, SampleConfig
from pipelines.data.subject import Subject
from pipelines.methods import w2w_inversion
from pipelines.methods.specs import preset
from pipelines.models.base import Base, load_base
from pipelines.sampling.sample import decoded, denoise
from pipelines.services.identity_space import CHOSEN, METHOD, NO_DELAY, Edit, coordinates
from pipelines.studio import Studio
from pipelines.training.loop import Step, train
from pipelines.weightspace.explore import SAMPLERS, Sliders
from pipelines.weightspace.index import Key, find_space, key_order
from pipelines.weightspace.space import Space

WARM_UP = 2
AUTHORS_SIZE = 99_648
AUTHORS_COMPONENTS = 1_000
GOALS = {  # floor, goal; ratios, or milliseconds
    "picture / steps and decoding": (1.15, 1.05),
    "delayed picture / steps and decoding": (1.15, 1.05),
    "weight change (ms)": (5.0, 1.0),
    "weight change, authors' size (ms)": (5.0, 1.0),
    "inversion step / LoRA step": (1.25, 1.12),
}


def timed(turns: dict[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each turn in each round; the order changes from round to round.

    A turn that returns a float has taken its own time.
    """
    times: dict[str, list[float]] = {name: [] for name in turns}
    orders = itertools.cycle(itertools.permutations(turns))
    for index in range(rounds + WARM_UP):
        for name in next(orders):
            started = time.perf_counter()
            answer = turns[name]()
            seconds = answer if isinstance(answer, float) else time.perf_counter() - started
            if index >= WARM_UP:
                times[name].append(seconds)
    return times


def ratio(times: dict[str, list[float]], one: str, other: str) -> float:
    """Return the median over the rounds of one turn's seconds divided by another's."""
    return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))


# ---- a slider -------------------------------------------------------------------------------------------------------


def picture(studio: Studio, space: Space, *, rounds: int, steps: int) -> dict[str, float]:
    """Return the ratio of a slider's picture to its denoising steps plus decoding, in full and with delayed injection."""
    base = studio.resources.model_cache().base(studio.resources.base)
    name = space.manifest.attributes[0].name
    point = studio.identities.sample(space.manifest.name, seed=1)
    config = SampleConfig(prompt=space.manifest.prompt, steps=steps)
    amounts = itertools.cycle([-2.0, -1.0, 1.0, 2.0])
    adapter = Subspace.of(space, beta=coordinates(point))
    scheduler: Any = base.pipeline(config.scheduler).scheduler
    scheduler.set_timesteps(steps)
    late = [t for t in scheduler.timesteps.tolist() if t <= 700]

    def slide(start_noise: int = NO_DELAY) -> object:
        edit = Edit({name: next(amounts)}, start_noise=start_noise)
        return studio.identities.draw(point, edit, config)

    turns: dict[str, Callable[[], object]] = {
        "picture": slide,
        "steps": lambda: bare_picture(base, adapter, config, steps=steps),
        "delayed": lambda: slide(start_noise=700),
        "late steps": lambda: bare_picture(base, adapter, config, steps=len(late)),
    }
    times = timed(turns, rounds=rounds)
    return {
        "picture / steps and decoding": ratio(times, "picture", "steps"),
        "delayed picture / steps and decoding": ratio(times, "delayed", "late steps"),
        "picture (s)": statistics.median(times["picture"]),
        "late steps": float(len(late)),
    }


def bare_picture(base: Base, adapter: Adapter, config: SampleConfig, *, steps: int) -> float:
    """Return the seconds of denoising and decoding, with the adapter merged and the prompts encoded before."""
    with torch.no_grad(), merged(base, [(adapter, 1.0)]):
        prompts = base.encode_prompts([config.prompt, config.negative_prompt])
        used = replace(config, steps=steps, size_px=base.size_px)
        started = time.perf_counter()
        latents = denoise(base, used, prompts=prompts, seeds=[used.seed], on_preview=None, stop=None)
        assert latents is not None
        decoded(base, latents)
        return time.perf_counter() - started


def change(space: Space, *, rounds: int) -> dict[str, float]:
    """Return the milliseconds from a slider's amounts to the tensors of every layer."""
    base = load_base(device="cpu")
    sliders = Sliders(space)
    theta = space.theta(space.scores[0])
    told = space.manifest
    adapter = Subspace(space=told.name, ranks=told.ranks(), alpha=told.alpha, components=told.components)
    adapter.low_rank(base)
    name = sliders.names[0]

    def move() -> None:
        adapter.use(sliders.moved(theta, {name: 1.0}))
        adapter.low_rank(base)

    times = timed({"move": move, "project": lambda: space.theta(space.scores[0])}, rounds=20 * rounds)
    return {
        "weight change (ms)": 1e3 * statistics.median(times["move"]),
        "projection instead (ms)": 1e3 * statistics.median(times["project"]),
    }


def sd1_keys() -> tuple[Key, ...]:
    """Return the keys of the authors' space: rank 1 on to_q and to_v of all attention layers of Stable Diffusion 1.5."""
    shapes = json.loads((ASSETS / "sd1_config" / "unet_shapes.json").read_text(encoding="utf-8"))
    found: dict[str, tuple[int, ...]] = {}
    for name, (rows, columns, *_) in ((key, value) for key, value in shapes.items() if len(value) > 1):
        if name.endswith((".to_q.weight", ".to_v.weight")):
            layer = "unet." + name.removeprefix("unet.").removesuffix(".weight")
            found |= {f"{layer}.lora_A.weight": (1, columns), f"{layer}.lora_B.weight": (rows, 1)}
    keys = key_order(found)
    assert keys[-1].offset + keys[-1].size == AUTHORS_SIZE
    return keys


def authors_change(*, rounds: int, attributes: int = 8) -> dict[str, float]:
    """Return the milliseconds of a slider at d = 99,648 and m = 1,000 with random numbers, and of a projection."""
    generator = torch.Generator().manual_seed(0)
    keys = sd1_keys()
    basis = torch.randn(AUTHORS_COMPONENTS, AUTHORS_SIZE, generator=generator)
    mean, std = torch.randn(2, AUTHORS_SIZE, generator=generator)
    beta = torch.randn(AUTHORS_COMPONENTS, generator=generator)
    sliders = Sliders.__new__(Sliders)
    sliders.names = [f"attribute {row}" for row in range(attributes)]
    sliders.beta = torch.randn(attributes, AUTHORS_COMPONENTS, generator=generator)
    sliders.theta = torch.randn(attributes, AUTHORS_SIZE, generator=generator)
    theta = mean + std * (beta @ basis)
    sizes = [key.size for key in keys]

    bound = theta.clone()
    views = [piece.view(key.shape) for piece, key in zip(bound.split(sizes), keys, strict=True)]

    def move(edits: dict[str, float]) -> list[Tensor]:
        bound.copy_(sliders.moved(theta, edits))
        return views

    one, all_of = {sliders.names[0]: 1.0}, dict.fromkeys(sliders.names, 0.5)
    turns = {
        "move": lambda: move(one), "all": lambda: move(all_of), "project": lambda: mean + std * (beta @ basis),
    }  # fmt: skip
    times = timed(turns, rounds=5 * rounds)
    return {
        "weight change, authors' size (ms)": 1e3 * statistics.median(times["move"]),
        "eight sliders at once, authors' size (ms)": 1e3 * statistics.median(times["all"]),
        "projection instead, authors' size (ms)": 1e3 * statistics.median(times["project"]),
    }


# ---- inversion ------------------------------------------------------------------------------------------------------


def inversion(space: Space, *, rounds: int) -> dict[str, float]:
    """Return the ratio of an inversion step to a step of a plain LoRA with the same layers, batch and loss."""
    quick = preset(METHOD, "embedded")
    config = replace(
        quick, steps=rounds + WARM_UP + 1, learning_rate=1e-5
    )  # a LoRA diverges at that of coordinates
    told = space.manifest
    plain = LoRA(ranks=told.ranks(), alpha=told.alpha)
    steps = {
        "inversion": stepping(load_base(device="cpu"), Subspace.of(space), config),
        "LoRA": stepping(load_base(device="cpu"), plain, config),
    }
    times = timed({name: (lambda run=run: next(run)) for name, run in steps.items()}, rounds=rounds)
    return {
        "inversion step / LoRA step": ratio(times, "inversion", "LoRA"),
        "inversion step (ms)": 1e3 * statistics.median(times["inversion"]),
    }


def stepping(base: Base, adapter: Adapter, config: Any) -> Iterator[Step]:
    """Yield the steps of a run on one noise image."""
    subject = Subject("sks", "person", ("",), ("",), random_moments(base, 1))
    with injected(adapter, base):
        batches = w2w_inversion.batches(base, [subject], config)
        yield from train(base, adapter, batches, w2w_inversion.loss, config)


# ---- sampling -------------------------------------------------------------------------------------------------------


def sampling(studio: Studio, space: Space, *, people: int, steps: int) -> dict[str, float]:
    """Return for each sampler the mean cosine of one person's pictures and of different people's, and the novelty.

    A person's pictures have four prompts and four seeds; different people are compared in the same four.
    """
    told, service = space.manifest, studio.identities
    config = SampleConfig(prompt=told.prompt, steps=steps)
    prompts = [
        told.prompt,
        *(f"{told.prompt} {scene}" for scene in ("on the beach", "in the forest", "in the library")),
    ]
    rows: dict[str, float] = {}
    for sampler in (*SAMPLERS, CHOSEN, "members"):
        points = [
            service.member(told.name, told.members[index])
            if sampler == "members"
            else service.sample(told.name, seed=index, sampler=sampler)
            for index in range(people)
        ]
        found = [service.scenes(point, Edit({}), config, prompts) for point in points]
        between = [service.alike([each.paths[place] for each in found]) for place in range(len(prompts))]
        rows |= {
            f"{sampler}: one person": statistics.mean(each.alike or 0.0 for each in found),
            f"{sampler}: different people": statistics.mean(value or 0.0 for value in between),
            f"{sampler}: novelty": statistics.mean(service.place(point).novelty for point in points),
        }
        show(dict(list(rows.items())[-3:]))
    return rows


# ---- the authors' layer ---------------------------------------------------------------------------------------------


def authors(checkout: Path, *, components: int, rounds: int, tokens: int = 64) -> dict[str, float]:
    """Return milliseconds of all 64 layers of one forward pass: the authors', and ours with one projection.

    Each layer gets ``tokens`` rows; the base layer's own product is part of neither.
    """
    spec = importlib.util.spec_from_file_location("lora_w2w", checkout / "lora_w2w.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    keys = sd1_keys()
    pairs = list(zip(keys[::2], keys[1::2], strict=True))
    proj = torch.nn.Parameter(torch.randn(1, components).bfloat16())
    basis = torch.randn(components, AUTHORS_SIZE).bfloat16()
    theirs, inputs = [], []
    for down, up in pairs:
        part = slice(down.offset, up.offset + up.size)
        layer = module.LoRAModule(
            "layer", proj, basis[:, part].T, torch.randn(part.stop - part.start), torch.ones(part.stop - part.start),
            torch.nn.Linear(down.size, up.size, bias=False), 1.0, 1, 27.0,
        )  # fmt: skip
        layer.org_forward = lambda x, width=up.size: x.new_zeros(len(x), width)
        theirs.append(layer)
        inputs.append(torch.randn(tokens, down.size).bfloat16())
    wide, beta = basis, proj.detach()[0]

    @torch.no_grad()
    def ours() -> None:
        pieces = (beta @ wide).split([key.size for key in keys])
        for x, down, up in zip(inputs, pieces[::2], pieces[1::2], strict=True):
            torch.mm(x @ down[:, None], up[None]).mul_(27.0)

    @torch.no_grad()
    def per_layer() -> None:
        for layer, x in zip(theirs, inputs, strict=True):
            layer(x)

    times = timed({"theirs": per_layer, "ours": ours}, rounds=rounds)
    return {
        f"authors' layers, m = {components} (ms)": 1e3 * statistics.median(times["theirs"]),
        f"ours, m = {components} (ms)": 1e3 * statistics.median(times["ours"]),
        f"authors' / ours, m = {components}": ratio(times, "theirs", "ours"),
    }


def explorer(space: Space, *, rounds: int, steps: int) -> dict[str, float]:
    """Return all figures of the page's work on a space."""
    studio = Studio(devices=("cpu",))
    parts: list[Callable[[], dict[str, float]]] = [
        lambda: change(space, rounds=rounds),
        lambda: authors_change(rounds=rounds),
        lambda: inversion(space, rounds=2 * rounds),
        lambda: picture(studio, space, rounds=rounds, steps=steps),
    ]
    rows: dict[str, float] = {}
    try:
        for part in parts:
            found = part()
            show(found)
            rows |= found
    finally:
        studio.close()
    return rows


def show(rows: dict[str, float]) -> None:
    """Print one line per figure, with its floor and its goal."""
    for name, value in rows.items():
        floor, goal = GOALS.get(name, (None, None))
        told = f"  floor {floor:g}, goal {goal:g}" if floor is not None else ""
        print(f"{name:>46}  {value:9.3f}{told}", flush=True)


def main() -> None:
    """Measure the sections that are asked for and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=["explorer", "sampling", "authors"], default=["explorer"]
    )
    parser.add_argument("--people", type=int, default=8, help="of each sampler")
    parser.add_argument("--space", default="faces")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=25, help="denoising steps of a picture")
    parser.add_argument("--weights2weights", type=Path, help="a checkout of snap-research/weights2weights")
    parser.add_argument("--components", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    rows: dict[str, float] = {}
    if "explorer" in args.only:
        rows |= explorer(Space.open(find_space(args.space)), rounds=args.rounds, steps=args.steps)
    if "sampling" in args.only:
        studio = Studio(devices=("cpu",))
        rows |= sampling(
            studio, Space.open(find_space(args.space)), people=args.people, steps=min(args.steps, 12)
        )
        studio.close()
    if "authors" in args.only:
        if args.weights2weights is None:
            parser.error("--only authors needs --weights2weights CHECKOUT")
        for components in args.components:
            found = authors(args.weights2weights, components=components, rounds=args.rounds)
            show(found)
            rows |= found
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
