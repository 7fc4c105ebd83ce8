"""Make the embedded base: ``python -m recipes.train_base``. Resumable at any point: run the same command again.

Work files (pictures, latents, checkpoints) stay in ``--work``, outside the repository.
"""

import argparse
import json
import logging
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from pipelines.evaluation.embedded_encoders import Instruments, Layout
from pipelines.files import data_root
from pipelines.models.base import Base, load_base
from recipes import evaluate, train_instruments
from recipes.card import write_card
from recipes.dataset import Pictures, render
from recipes.judge import Lesson, cache_named, train_judge
from recipes.models import assemble, save_base
from recipes.parallel import launch
from recipes.quality import Reference
from recipes.train_unet import (
    cache_latents,
    cache_tokens,
    load_unet,
    make_tokenizer,
    measure_scaling,
    train_unet,
)
from recipes.train_vae import load_vae, train_decoder, train_vae
from recipes.words import base_words

logger = logging.getLogger(__name__)

STAGES = (
    "render",
    "vae",
    "latents",
    "decoder",
    "judge",
    "unet",
    "instruments",
    "install",
    "assemble",
    "evaluate",
)
GUIDANCE_SCALE = 3.0  # chosen with ``evaluate --sweep``; the model card has the figures
ROUND_TRIPS = 32_000
ASSETS = Path(__file__).parent.parent / "assets"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=data_root() / "train_base", help="folder for work files")
    parser.add_argument(
        "--stage", choices=STAGES, action="append", help="only these stages (default: all, in order)"
    )
    parser.add_argument("--pictures", type=int, default=64_000)
    parser.add_argument("--vae-steps", type=int, default=18_000)
    parser.add_argument(
        "--decoder-steps", type=int, default=6_000, help="of the decoder alone, after the VAE"
    )
    parser.add_argument(
        "--start", type=Path, help="an earlier base: its autoencoder and vocabulary stay, its UNet goes on"
    )
    parser.add_argument("--judge-steps", type=int, default=0, help="0: no judge of noisy latents")
    parser.add_argument("--unet-steps", type=int, default=62_500, help="of 64 pictures")
    parser.add_argument(
        "--measure-every", type=int, default=6_400, help="UNet steps between two measurements"
    )
    parser.add_argument(
        "--instrument-steps",
        type=int,
        default=8_000,
        help="of the reader; a quarter of it for each of the others",
    )
    parser.add_argument("--processes", type=int, default=2, help="one for each core")
    parser.add_argument(
        "--photos", type=Path, help="a folder of real photographs, only measured (autoencoder)"
    )
    parser.add_argument(
        "--base", type=Path, default=ASSETS / "base", help="the folder that is assembled or evaluated"
    )
    parser.add_argument("--beside", type=Path, help="an earlier base, evaluated by the same code")
    parser.add_argument("--captions", type=int, default=500, help="pictures that are drawn and measured")
    parser.add_argument("--sweep", action="store_true", help="evaluate at several guidance scales")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.start:
        adopt(options.start, options.work, vae_steps=options.vae_steps)
    for stage in options.stage or STAGES:
        parallel = stage in ("vae", "latents", "decoder", "judge", "unet", "instruments")
        if stage in ("judge", "unet"):
            prepare_latents(options)
            if options.judge_steps:
                prepare_labels(options)
        if stage == "instruments":
            prepare_instruments(options)
        launch(run_stage, options.processes if parallel else 1, stage, options)


def run_stage(stage: str, options: argparse.Namespace) -> None:
    """Run one stage; it reads the results of earlier stages from ``options.work``."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    work: Path = options.work
    if stage == "render":
        render(work / "pictures", options.pictures, processes=options.processes)
    elif stage == "vae":
        train_vae(Pictures(work / "pictures"), work, steps=options.vae_steps)
    elif stage == "latents":
        cache_latents(Pictures(work / "pictures"), work / "latents", options.pictures)
    elif stage == "decoder":
        pictures = Pictures(work / "pictures")
        latents = cache_latents(pictures, work / "latents", options.pictures)
        train_decoder(pictures, latents, work, steps=options.decoder_steps)
    elif stage == "judge" and options.judge_steps:
        fit_judge(options)
    elif stage == "unet":
        tokenizer = make_tokenizer(work / "tokenizer", options.pictures)
        latents, tokens, scaling = prepare_latents(options)
        lesson = fit_judge(options) if options.judge_steps else None
        train_unet(
            latents, tokens, tokenizer, work,
            steps=options.unet_steps, scaling=scaling, start=options.start, lesson=lesson,
            progress=Progress(work, tokenizer), measure_every=options.measure_every,
        )  # fmt: skip
    elif stage == "instruments":
        fit_instruments(options)
    elif stage == "install":
        install_instruments(work / "instruments", ASSETS / "instruments")
    elif stage == "assemble":
        assemble_base(options)
    elif stage == "evaluate":
        torch.set_num_threads(options.processes)
        measure(options)


def adopt(start: Path, work: Path, *, vae_steps: int) -> None:
    """Copy an earlier base's finished autoencoder, its scaling factor and its vocabulary into ``work``."""
    if (work / "vae.pt").exists():
        return
    vae = AutoencoderKL.from_pretrained(start / "vae")
    average = [p.detach() for p in vae.parameters()]
    (work / "scaling.json").write_text(json.dumps({"scaling_factor": vae.config.scaling_factor}))
    shutil.copytree(start / "tokenizer", work / "tokenizer", dirs_exist_ok=True)
    torch.save({"step": vae_steps, "modules": {"vae": vae.state_dict()}, "average": average}, work / "vae.pt")


def prepare_latents(options: argparse.Namespace) -> tuple[torch.Tensor, np.ndarray, float]:
    """Return latents, caption tokens and the scaling factor; computed once, then read from disk."""
    work: Path = options.work
    tokenizer = make_tokenizer(work / "tokenizer", options.pictures)
    latents = cache_latents(Pictures(work / "pictures"), work / "latents", options.pictures)
    tokens = cache_tokens(tokenizer, work / "tokens.npy", options.pictures)
    return latents, tokens, measure_scaling(latents, work / "scaling.json")


def prepare_labels(options: argparse.Namespace) -> tuple[Layout, dict[str, np.ndarray], np.ndarray]:
    """Return each picture's labels and the fields each caption names; computed once, then read from disk."""
    layout = Layout(train_instruments.layout_groups())
    labels = train_instruments.cache_labels(layout, options.work / "labels.npz", options.pictures)
    named = cache_named(layout, options.work / "named.npy", options.pictures, processes=options.processes)
    return layout, labels, named


def fit_judge(options: argparse.Namespace) -> Lesson:
    """Finish training the judge of noisy latents and return it as a loss for the base."""
    latents, _, scaling = prepare_latents(options)
    layout, labels, named = prepare_labels(options)
    judge = train_judge(
        layout, latents, labels["whole"], options.work, steps=options.judge_steps, scaling=scaling
    )
    return Lesson(judge, layout.fields, labels["whole"], named)


def prepare_instruments(options: argparse.Namespace) -> None:
    """Compute labels and round trips before the parallel processes read them."""
    work: Path = options.work
    torch.set_num_threads(options.processes)
    latents, _, _ = prepare_latents(options)
    prepare_labels(options)
    train_instruments.cache_round_trips(
        Pictures(work / "pictures"), latents, work / "round_trips", ROUND_TRIPS
    )


def fit_instruments(options: argparse.Namespace) -> None:
    """Train reader, identity encoder and CLIP; all processes end with the same weights, which the checkpoints store."""
    work: Path = options.work
    layout = Layout(train_instruments.layout_groups())
    labels = train_instruments.cache_labels(layout, work / "labels.npz", options.pictures)
    pictures = Pictures(work / "pictures")
    latents = cache_latents(pictures, work / "latents", options.pictures)
    round_trips = train_instruments.cache_round_trips(pictures, latents, work / "round_trips", ROUND_TRIPS)
    tokenizer = make_tokenizer(work / "tokenizer", options.pictures)
    tokens = cache_tokens(tokenizer, work / "tokens.npy", options.pictures)
    steps = options.instrument_steps
    reader = train_instruments.train_reader(layout, labels, pictures, round_trips, work, steps=steps)
    identity = train_instruments.train_identity(reader, labels, pictures, round_trips, work, steps=steps // 4)
    clip = train_instruments.train_clip(
        reader, tokens, tokenizer, pictures, round_trips, work, steps=steps // 4
    )
    train_instruments.save_instruments(
        work / "instruments", clip=clip, identity=identity, reader=reader, vocabulary=len(tokenizer)
    )


def assemble_base(options: argparse.Namespace) -> None:
    """Write the base (``options.base``) from the checkpoints."""
    work: Path = options.work
    tokenizer = make_tokenizer(work / "tokenizer", options.pictures)
    unet, text_encoder, step = load_unet(work, tokenizer)
    write_base(work, tokenizer, unet, text_encoder, step=step, folder=options.base)
    logger.info("assembled the base of step %d", step)


def install_instruments(made: Path, target: Path) -> None:
    """Copy the finished measuring models to the folder from which the app loads them."""
    target.mkdir(exist_ok=True)
    for path in made.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


def write_base(
    work: Path,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    *,
    step: int,
    folder: Path,
) -> None:
    """Write the models as a diffusers folder in float16; the given models are rounded to float16 values in place."""
    vae = load_vae(work)
    vae.register_to_config(scaling_factor=json.loads((work / "scaling.json").read_text())["scaling_factor"])
    facts = {
        "family": "embedded",
        "name": "Atelier's embedded base",
        "sample_px": 128,
        "guidance_scale": GUIDANCE_SCALE,
        "unet_steps": step,
        "unseen_words": unseen_words(tokenizer, sorted(work.glob("tokens*.npy"))),
        "words": base_words(),
    }
    save_base(assemble(tokenizer, text_encoder, vae, unet), folder, facts)


class Progress:
    """Measures the averaged weights while the UNet trains; each call adds one line to ``progress.jsonl``."""

    def __init__(self, work: Path, tokenizer: CLIPTokenizer, count: int = 256) -> None:
        self.work, self.tokenizer, self.count = work, tokenizer, count
        self.instruments, self.reference = Instruments(), None

    def __call__(
        self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, *, step: int, pictures: int
    ) -> None:
        """Measure copies of both models; ``pictures`` is the number of training pictures so far."""
        folder, parts = self.work / "now", (deepcopy(unet), deepcopy(text_encoder))
        write_base(self.work, self.tokenizer, *parts, step=step, folder=folder)
        base = load_base(str(folder))
        self.reference = self.reference or evaluate.reference_renders(base, self.instruments)
        figures: dict[str, float] = {"pictures": pictures} | evaluate.measure_generation(
            base, self.instruments,
            guidance_scale=GUIDANCE_SCALE, count=self.count, reference=self.reference,
        )  # fmt: skip
        figures |= evaluate.measure_pairs(base, self.instruments, guidance_scale=GUIDANCE_SCALE)
        evaluate.sheet(base, self.work / f"sheet-{step:06d}.png", guidance_scale=GUIDANCE_SCALE)
        with (self.work / "progress.jsonl").open("a") as file:
            file.write(json.dumps(figures) + "\n")
        logger.info("progress %s", figures)


def unseen_words(tokenizer: CLIPTokenizer, caches: list[Path]) -> list[str]:
    """Return short whole words of the vocabulary that occur in no caption and are therefore untrained (rare tokens).

    They come from the general English text. ``caches`` are the token ids of all caption sets the base was trained on.
    """
    seen: set[int] = set().union(*(np.unique(np.load(path, mmap_mode="r")).tolist() for path in caches))
    words = {
        name.removesuffix("</w>"): index
        for name, index in tokenizer.get_vocab().items()
        if name.endswith("</w>")
    }
    return sorted(
        word for word, index in words.items() if index not in seen and word.isalpha() and 3 <= len(word) <= 4
    )


def measure(options: argparse.Namespace) -> None:
    """Write all figures, the contact sheet and the model card."""
    base, instruments = load_base(str(options.base)), Instruments()
    reference = evaluate.reference_renders(base, instruments)
    figures: dict[str, Any] = evaluate.measure_autoencoder(base, options.photos)
    figures |= evaluate.measure_instruments(base, instruments)
    for guidance_scale in (2.0, 3.0, 4.5, 6.0) if options.sweep else ():
        swept = evaluate.measure_generation(
            base, instruments, guidance_scale=guidance_scale, count=100, reference=reference
        )
        logger.info("sweep %s", swept)
    figures |= measure_drawn(base, instruments, reference, options.captions)
    figures["renders"] = evaluate.measure_renders(base, instruments, reference)
    if options.beside:
        earlier = load_base(str(options.beside))
        figures["earlier"] = measure_drawn(earlier, instruments, reference, options.captions)
    figures["unet_steps"] = json.loads((options.base / "atelier.json").read_text())["unet_steps"]
    figures["picture_seconds"] = evaluate.picture_seconds(base, guidance_scale=GUIDANCE_SCALE)
    progress = options.work / "progress.jsonl"
    figures["progress"] = [json.loads(line) for line in progress.open()] if progress.exists() else []
    logger.info("figures %s", json.dumps(figures, indent=1))
    evaluate.sheet(base, options.base / "sheet.png", guidance_scale=GUIDANCE_SCALE)
    write_card(options.base, figures)


def measure_drawn(base: Base, instruments: Instruments, reference: Reference, count: int) -> dict[str, float]:
    """Measure a base's pictures: one subject from held-out captions, and two subjects side by side."""
    figures = evaluate.measure_generation(
        base, instruments, guidance_scale=GUIDANCE_SCALE, count=count, reference=reference
    )
    return figures | evaluate.measure_pairs(base, instruments, guidance_scale=GUIDANCE_SCALE)


if __name__ == "__main__":
    main()
