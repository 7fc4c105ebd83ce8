"""Overhead of the training loop: ``python -m bench.step [--diffusers PATH_TO_CHECKOUT]``.

First table: a step of our loop (batch sampling, noise, forward, losses, backward, clipping, AdamW, metrics for the
page) against the bare computation: the same UNet with the same adapter injected, forward + MSE + backward on prepared
tensors. It also lists the overhead of an adapter over the frozen UNet (forward + backward to its input), for our
adapter and for stock PEFT with the same layers and ranks. All variants are timed alternately and compared within each
round, so that load on the machine affects all of them equally.

Second table: a step of diffusers' own examples/dreambooth/train_dreambooth_lora.py, run from a checkout, against our
step with the same settings (rank 4 on the attention layers, prior preservation), timed alternately.
"""

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from peft import LoraConfig
from PIL import Image

from pipelines.config import ASSETS, DreamBoothConfig
from pipelines.data.photographs import Moments
from pipelines.data.subject import Subject
from pipelines.methods.specs import METHODS, preset
from pipelines.models.base import Base, load_base
from pipelines.models.targets import LORA_TARGETS
from pipelines.training.loop import Step, train

METHOD = METHODS["dreambooth"].load()
SETTINGS = (
    (1, 1.25, 1.10),
    (4, 1.12, 1.05),
)  # photos per step (plus the same number of class images), floor, goal
SCRIPT = Path("examples/dreambooth/train_dreambooth_lora.py")
SCRIPT_FLOOR, SCRIPT_GOAL = 1.2, 1.5
WARM_UP = 3


def random_moments(base: Base, count: int) -> Moments:
    side = base.size_px // base.vae_factor
    generator = torch.Generator().manual_seed(count)
    mean = torch.randn(count, 4, side, side, generator=generator) / base.scaling_factor
    return Moments(mean=mean, logvar=torch.full_like(mean, -10.0))


def our_steps(base: Base, config: DreamBoothConfig) -> Iterator[Step]:
    """Yield the steps of a DreamBooth run on four noise images and 64 class images; the adapter stays injected."""
    subject = Subject(
        identifier="sks",
        class_noun="person",
        moments=random_moments(base, 4),
        captions=("",) * 4,
        names=("",) * 4,
        class_moments=random_moments(base, 64),
    )
    adapter = METHOD.adapter(base, config, ())
    adapter.inject(base)
    batches = METHOD.batches(base, [subject], config)
    yield from train(base, adapter, batches, METHOD.loss, config)


def bare_work(base: Base, config: DreamBoothConfig, *, adapter: str) -> Callable[[], None]:
    """Return forward + MSE + backward to the parameters of ``adapter`` ("ours" or "peft"), or to the input for ""."""
    size = 2 * config.batch_size
    noisy = random_moments(base, size).mean.to(base.device, base.dtype)
    noise = torch.randn_like(noisy)
    timesteps = torch.randint(1000, (size,), device=base.device)
    contexts = base.encode_prompts(["a photo of a dog"] * size)
    if adapter == "ours":
        parameters = METHOD.adapter(base, config, ()).inject(base).parameters()
    elif adapter == "peft":
        target_modules = LORA_TARGETS[config.targets]
        base.unet.add_adapter(
            LoraConfig(r=config.rank, lora_alpha=config.rank, target_modules=target_modules)
        )
        parameters = [parameter for parameter in base.unet.parameters() if parameter.requires_grad]
    else:
        parameters = [noisy.requires_grad_(True)]

    def work() -> None:
        for parameter in parameters:
            parameter.grad = None
        noise_pred = base.unet(noisy, timesteps, contexts, return_dict=False)[0]
        torch.nn.functional.mse_loss(noise_pred.float(), noise.float()).backward()
        if base.device.type == "cuda":
            torch.cuda.synchronize()

    return work


def seconds_of(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def loop_row(batch_size: int, *, rounds: int) -> dict[str, float]:
    """Return median times in ms, and the medians over the rounds of loop / ours, ours / frozen and peft / frozen."""
    steps_needed = rounds + WARM_UP + 1
    config = dataclasses.replace(
        preset("dreambooth", "embedded"),
        batch_size=batch_size,
        accumulation=1,
        steps=steps_needed,
        warmup_steps=0,
        prior_preservation=True,
        text_encoder=False,
    )
    steps = our_steps(load_base(), config)
    turns: dict[str, Callable[[], object]] = {"loop": lambda: next(steps)}
    for name, adapter in (("ours", "ours"), ("peft", "peft"), ("frozen", "")):
        turns[name] = bare_work(load_base(), config, adapter=adapter)
    times: dict[str, list[float]] = {name: [] for name in turns}
    orders = itertools.cycle(itertools.permutations(turns))
    for index in range(rounds + WARM_UP):
        for name in next(orders):
            seconds = seconds_of(turns[name])
            if index >= WARM_UP:
                times[name].append(seconds)

    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))

    medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    pairs = (("loop", "ours"), ("loop", "peft"), ("ours", "frozen"), ("peft", "frozen"))
    return medians | {f"{one} / {other}": ratio(one, other) for one, other in pairs}


def write_pictures(folder: Path, *, count: int, size_px: int) -> None:
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for index in range(count):
        pixels = torch.randint(256, (size_px, size_px, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{index:02}.png")


def script_seconds(checkout: Path, folder: Path, *, steps: int, size_px: int) -> tuple[list[float], bool]:
    """Run diffusers' script for ``steps`` steps; return (seconds per step without warm-up, torchvision stub used)."""
    result = folder / "result.json"
    arguments = [
        f"--pretrained_model_name_or_path={ASSETS / 'base'}",
        f"--instance_data_dir={folder / 'photos'}",
        f"--class_data_dir={folder / 'class'}",
        f"--output_dir={folder / 'output'}",
        "--instance_prompt=a photo of a sks dog",
        "--class_prompt=a photo of a dog",
        "--with_prior_preservation",
        "--num_class_images=64",
        "--train_batch_size=1",
        "--rank=4",
        "--learning_rate=1e-4",
        "--lr_scheduler=constant",
        f"--resolution={size_px}",
        f"--max_train_steps={steps + WARM_UP + 1}",
        "--checkpointing_steps=100000",
        "--seed=0",
    ]
    command = [
        sys.executable,
        "-m",
        "bench.diffusers_script",
        str(checkout / SCRIPT),
        str(result),
        *arguments,
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_MININTERVAL": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(f"{SCRIPT.name} did not finish; its last words were:\n{done.stderr[-2000:]}")
    told = json.loads(result.read_text(encoding="utf-8"))
    return told["seconds"][WARM_UP:], told["stand_in"]


def script_row(checkout: Path, *, rounds: int, stretches: int = 3) -> tuple[dict[str, float], bool]:
    """Return median times in ms of both loops, run alternately, and whether the torchvision stub was used."""
    base = load_base()
    config = DreamBoothConfig(
        prior_preservation=True, rank=4, targets="attention", steps=stretches * (rounds + WARM_UP) + 1
    )
    steps = our_steps(base, config)
    ours, theirs, ratios, stood_in = [], [], [], False
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_pictures(folder / "photos", count=4, size_px=base.size_px)
        write_pictures(folder / "class", count=64, size_px=base.size_px)
        for _ in range(stretches):
            mine = [seconds_of(lambda: next(steps)) for _ in range(rounds + WARM_UP)][WARM_UP:]
            other, stood_in = script_seconds(checkout, folder, steps=rounds, size_px=base.size_px)
            ours, theirs = ours + mine, theirs + other
            ratios.append(statistics.median(other) / statistics.median(mine))
    row = {"ours": 1e3 * statistics.median(ours), "diffusers": 1e3 * statistics.median(theirs)}
    return {**row, "diffusers / ours": statistics.median(ratios)}, stood_in


def main() -> None:
    parser = argparse.ArgumentParser(description="What the training loop costs.")
    parser.add_argument(
        "--diffusers", type=Path, help="a checkout of diffusers whose script is timed as well"
    )
    parser.add_argument(
        "--rounds", type=int, default=40, help="rounds of the first table, steps of the second"
    )
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, Quick preset on the embedded base")
    print("ms per step: frozen UNet, with our adapter, with stock PEFT (all bare), and the whole loop")
    print(
        "photos+class  frozen    ours    peft    loop  ours/frozen  peft/frozen  loop/ours  floor  goal  loop/peft"
    )
    for batch_size, floor, goal in SETTINGS:
        row = loop_row(batch_size, rounds=arguments.rounds)
        print(
            f"{f'{batch_size}+{batch_size}':>12}  {row['frozen']:6.1f}  {row['ours']:6.1f}  {row['peft']:6.1f}"
            f"  {row['loop']:6.1f}  {row['ours / frozen']:10.2f}x  {row['peft / frozen']:10.2f}x"
            f"  {row['loop / ours']:8.3f}x  {floor:5.2f}  {goal:4.2f}  {row['loop / peft']:8.3f}x"
        )
    if arguments.diffusers is None:
        print("diffusers' own script: not timed; give --diffusers PATH_TO_CHECKOUT.")
        return
    row, stood_in = script_row(arguments.diffusers, rounds=arguments.rounds)
    print("\n1+1 rank 4 attention   diffusers ms  ours ms  times as fast  floor  goal")
    print(
        f"{SCRIPT.name:>22}  {row['diffusers']:10.1f}  {row['ours']:7.1f}  {row['diffusers / ours']:12.2f}x"
        f"  {SCRIPT_FLOOR:5.2f}  {SCRIPT_GOAL:4.2f}"
    )
    if stood_in:
        print(
            "torchvision is not installed: five of its image transforms stood in (bench/diffusers_script.py)."
        )


if __name__ == "__main__":
    main()
