"""Make the embedded base: ``python -m recipes.train_base``. Resumable at any point: run the same command again.

Work files (pictures, latents, checkpoints) stay in ``--work``, outside the repository.
"""

import argparse
import logging
from pathlib import Path

import torch

from pipelines.runs import data_root
from recipes.dataset import Pictures, render
from recipes.train_unet import cache_latents, cache_tokens, make_tokenizer, measure_scaling, train_unet
from recipes.train_vae import train_vae

STAGES = ("render", "vae", "latents", "unet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=data_root() / "train_base", help="folder for work files")
    parser.add_argument("--stage", choices=STAGES, action="append", help="only these stages (default: all, in order)")
    parser.add_argument("--pictures", type=int, default=80_000)
    parser.add_argument("--vae-steps", type=int, default=6_000)
    parser.add_argument("--unet-steps", type=int, default=40_000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    for stage in options.stage or STAGES:
        run_stage(stage, options)


def run_stage(stage: str, options: argparse.Namespace) -> None:
    """One stage; each finds what the earlier ones left in ``options.work``."""
    work: Path = options.work
    if stage == "render":
        render(work / "pictures", options.pictures, processes=options.threads)
    elif stage == "vae":
        train_vae(Pictures(work / "pictures"), work, steps=options.vae_steps)
    elif stage == "latents":
        cache_latents(Pictures(work / "pictures"), work / "latents", options.pictures)
    elif stage == "unet":
        tokenizer = make_tokenizer(work / "tokenizer", options.pictures)
        latents = cache_latents(Pictures(work / "pictures"), work / "latents", options.pictures)
        tokens = cache_tokens(tokenizer, work / "tokens.npy", options.pictures)
        scaling = measure_scaling(latents, work / "scaling.json")
        train_unet(latents, tokens, tokenizer, work, steps=options.unet_steps, scaling=scaling)


if __name__ == "__main__":
    main()
