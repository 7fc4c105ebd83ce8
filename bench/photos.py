"""Real photographs on the embedded base: does the picture show the prompted scene, and still the subject?

    python -m bench.photos PATH --json photos.json --sheet photos.png [--home DIR]

``PATH`` contains one folder of photographs per subject. The class noun is the folder's name unless
``--noun NAME=WORD`` overrides it. Each subject is trained three times with the Quick preset: on the original
photographs, on masked photographs, and as the page trains on uploaded photographs (cut out and composited into
scenes). The prompts name five scenes that no composite shows. The small CLIP classifies the scene, zero-shot over the
ten scenes it knows. Likeness is the identity encoder's cosine similarity of the masked regions on grey, rescaled:
0 is the base model, 1 is the score of the other photographs after the VAE. With ``--home`` an interrupted benchmark
resumes.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from PIL import Image

from bench.dreambooth import scene_right, table
from pipelines.config import SampleConfig, SubjectConfig
from pipelines.data.masks import find_mask
from pipelines.data.photographs import read_photos, to_images, to_tensor
from pipelines.evaluation.metrics import Encoders, load_encoders, pairwise
from pipelines.methods.specs import preset
from pipelines.models.base import Base, load_base
from pipelines.studio import Studio
from recipes.captions import SCENE_PHRASES

SCENES = ("beach", "snowy mountains", "living room", "desert", "starry night")
GREY = (128, 128, 128)
SIDE_PX = 128  # input size of the encoders
WAYS: dict[str, dict[str, Any]] = {
    "photographs as they are": {"mask_background": False, "scenes": 0},
    "masked": {"mask_background": True, "background_weight": 0.0, "scenes": 0},
    "masked, in scenes": {"mask_background": True, "background_weight": 0.2, "scenes": 6},
}
TARGETS = {"scene right": (0.60, 0.85), "likeness, share of the photographs as they are": (0.80, 0.95)}


def subjects_in(folder: Path) -> dict[str, list[Path]]:
    """Return the photographs of every subject, by folder name."""
    found = {
        path.name: sorted(each for each in path.iterdir() if each.suffix.lower() in (".jpg", ".jpeg", ".png"))
        for path in sorted(folder.iterdir())
        if path.is_dir()
    }
    return {name: paths for name, paths in found.items() if paths}


def cut_out(picture: Image.Image) -> Image.Image:
    """Return the masked region of the picture on grey."""
    small = picture.convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    return Image.composite(small, Image.new("RGB", small.size, GREY), find_mask(small).image)


def features(encoders: Encoders, pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Return (N, D) unit rows: identity features of the cut-out subjects."""
    return encoders.identity.image_features([cut_out(picture) for picture in pictures])


def through_vae(base: Base, photos: Sequence[Image.Image]) -> list[Image.Image]:
    """Return the photographs encoded and decoded by the VAE."""
    moments = [base.encode_images(to_tensor([photo])).mean for photo in photos]
    return [to_images(base.decode(mean * base.scaling_factor))[0] for mean in moments]


def draw(
    studio: Studio, config: SubjectConfig, *, run_id: str | None, seeds: int, guidance_scale: float
) -> list[Image.Image]:
    """Generate pictures of the subject in every scene, in the order of the scenes."""
    pictures = []
    for scene in SCENES:
        prompt = config.words(f"{config.instance_prompt} {SCENE_PHRASES[scene][0]}")
        asked = SampleConfig(prompt=prompt, count=seeds, guidance_scale=guidance_scale)
        pictures += [
            Image.open(path).convert("RGB") for path in studio.generation.generate(asked, run_id=run_id)
        ]
    return pictures


def trained(studio: Studio, name: str, config: SubjectConfig, paths: Sequence[Path]) -> str:
    """Return the id of the finished run of this name: an earlier one in ``--home``, or a new one."""
    for row in studio.library.list_runs():
        if row.name == name and row.state == "done":
            return row.id
    run_id = studio.training.start("dreambooth", config, list(paths), name=name)
    state = studio.training.wait(run_id)
    if state != "done":
        raise ValueError(f"The run {name} ended as {state}.")
    return run_id


def bench_subject(
    studio: Studio, base: Base, name: str, paths: Sequence[Path], *, noun: str, seeds: int, encoders: Encoders
) -> tuple[dict[str, Any], list[Image.Image]]:
    """Return the measurements of one subject, and its rows of the sheet."""
    config = replace(preset("dreambooth", base.family, "Quick"), class_noun=noun, measure=False)
    photos = [photo.image for photo in read_photos(paths, size_px=base.size_px)]
    real = features(encoders, photos)
    others = pairwise(features(encoders, through_vae(base, photos)), real)
    one = float(others[~torch.eye(len(photos), dtype=torch.bool)].mean())
    asked = [scene for scene in SCENES for _ in range(seeds)]
    untouched = draw(studio, config, run_id=None, seeds=seeds, guidance_scale=base.guidance_scale)
    zero = float(pairwise(features(encoders, untouched), real).mean())
    found: dict[str, Any] = {"untouched base": zero, "other photographs through the VAE": one}
    sheet = [*photos[:4], *untouched[::seeds]]
    for way, changes in WAYS.items():
        run_id = trained(studio, f"{name}, {way}", replace(config, **changes), paths)
        drawn = draw(studio, config, run_id=run_id, seeds=seeds, guidance_scale=base.guidance_scale)
        likeness = float(pairwise(features(encoders, drawn), real).mean())
        found[way] = {
            "scene right": scene_right(drawn, asked, encoders, noun=noun),
            "cosine": likeness,
            "likeness": (likeness - zero) / max(1e-3, one - zero),
        }
        sheet += [*photos[:4], *drawn[::seeds]]
    return found, sheet


def summary(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the means over the subjects, with the likeness relative to the variant on the original photographs."""
    rows = {
        way: {
            key: mean(each[way][key] for each in found.values())
            for key in ("scene right", "cosine", "likeness")
        }
        for way in WAYS
    }
    plain = rows["photographs as they are"]["likeness"]
    for row in rows.values():
        row["share of as they are"] = row["likeness"] / max(1e-3, plain)
    return rows


def grid(pictures: Sequence[Image.Image], *, columns: int) -> Image.Image:
    """Arrange pictures row by row."""
    rows = -(-len(pictures) // columns)
    canvas = Image.new("RGB", (columns * SIDE_PX, rows * SIDE_PX), "white")
    for index, picture in enumerate(pictures):
        place = (index % columns * SIDE_PX, index // columns * SIDE_PX)
        canvas.paste(picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS), place)
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, help="a folder of folders of photographs")
    parser.add_argument("--noun", action="append", default=[], help="NAME=WORD; repeatable")
    parser.add_argument("--only", nargs="*", default=[], help="these folders alone")
    parser.add_argument("--seeds", type=int, default=4, help="pictures of each scene")
    parser.add_argument("--threads", type=int, default=1, help="cores to use")
    parser.add_argument("--home", type=Path, help="keep runs here, and go on with what is there")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    nouns = dict(text.split("=", 1) for text in args.noun)
    encoders, base = load_encoders("embedded"), load_base("embedded")
    found, pictures = {}, []
    with tempfile.TemporaryDirectory(prefix="atelier-photos-") as passing:
        studio = Studio(root=(args.home or Path(passing)).resolve())
        try:
            for name, paths in subjects_in(args.path).items():
                if args.only and name not in args.only:
                    continue
                found[name], rows = bench_subject(
                    studio,
                    base,
                    name,
                    paths,
                    noun=nouns.get(name, name.replace("_", " ")),
                    seeds=args.seeds,
                    encoders=encoders,
                )
                pictures += rows
                print(json.dumps({name: found[name]}), flush=True)
                if args.sheet:
                    grid(pictures, columns=4 + len(SCENES)).save(args.sheet)
        finally:
            studio.close()
    rows = summary(found)
    print("\n" + table(f"Quick, {len(found)} subjects, {args.seeds} seeds, {len(SCENES)} scenes", rows))
    print(f"floor / goal: {TARGETS}")
    if args.json:
        args.json.write_text(json.dumps({"subjects": found, "means": rows}, indent=1))


if __name__ == "__main__":
    main()
