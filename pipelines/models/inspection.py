"""Identifies a base model from names, configs and headers, without weights, torch or network access.

Atelier supports Stable Diffusion 1.x. Related models (2.x, XL, 3, inpainting, v-prediction, ...) have similar files, so
they are detected and rejected by name before weights are read.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pipelines.config import ASSETS
from pipelines.models.hub import downloads_off, hub_snapshot

EMBEDDED = "embedded"
SKETCHES = (
    "The embedded base knows only an illustrated world, so of your photographs it draws a sketch of {size_px} pixels; "
    "a real base model draws photographs."
)
PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
MAX_HEADER_BYTES = 32 * 2**20
HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}(@[\w.-]{1,96})?")
SD1_TEXT_WIDTH = 768
SD1_SIZE_PX = 512
SD1_GUIDANCE = 7.5
SD1_SIZE_MB = {"float32": 4270, "half": 2140}  # UNet + text encoder + VAE

UNET = "model.diffusion_model."
LDM_PREFIXES = (UNET, "cond_stage_model.transformer.", "first_stage_model.")
FIRST_LAYER = UNET + "input_blocks.0.0.weight"
CROSS_ATTENTION = UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
PREDICTION_TYPES = {
    "v_prediction": "a v-prediction model",
    "sample": "a model that predicts the clean sample",
}
OTHER_PIPELINES = {
    "StableDiffusionXL": "Stable Diffusion XL",
    "StableDiffusion3": "Stable Diffusion 3",
    "Flux": "FLUX",
    "StableDiffusionInpaint": "an inpainting model",
    "StableDiffusionInstructPix2Pix": "an InstructPix2Pix model",
    "StableDiffusionDepth": "a depth-to-image model",
    "StableDiffusionUpscale": "an upscaler",
}
TEXT_WIDTHS = {
    1024: "Stable Diffusion 2",
    1280: "the Stable Diffusion XL refiner",
    2048: "Stable Diffusion XL",
}
FAMILY_MARKS = (  # substrings of tensor names -> the kind of checkpoint; the first match decides
    ("joint_blocks.", "Stable Diffusion 3"),
    ("double_blocks.", "FLUX"),
    ("conditioner.embedders.", "Stable Diffusion XL"),
    (UNET + "label_emb.", "Stable Diffusion XL"),
    ("cond_stage_model.model.", "Stable Diffusion 2"),
    ("control_model.", "a ControlNet"),
)
ADAPTER_MARKS = (
    "lora_unet_",
    "lora_te",
    "lora_A.",
    "lora_B.",
    ".lora.",
    "lora_down",
    "lora_up",
    "hada_w1",
    "lokr_w1",
)
MAX_SPEC = 400  # characters of a base's name


@dataclass(frozen=True)
class Place:
    """The location of a base's weights: ``kind`` is "folder", "file" or "hub"; "hub" has no path."""

    kind: str
    name: str
    path: Path | None = None
    revision: str | None = None


def locate(spec: str) -> Place:
    """Resolve ``spec`` to a folder, a checkpoint file or a Hub id. Raises ValueError if it is none of them."""
    if not spec.strip():
        raise ValueError(
            "The base model is empty; give a diffusers folder, a .safetensors checkpoint, or a Hub id such as owner/name."
        )
    if spec == EMBEDDED:
        return Place(kind="folder", name="Embedded base", path=ASSETS / "base")
    path = Path(spec).expanduser()
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise ValueError(pickle_sentence(path.name))
    if path.is_dir():
        return Place(kind="folder", name=path.resolve().name, path=path)
    if path.is_file():
        return Place(kind="file", name=path.stem, path=path)
    if HUB_ID.fullmatch(spec) and ".." not in spec and path.suffix != ".safetensors":
        name, _, revision = spec.partition("@")
        return Place(kind="hub", name=name, revision=revision or None)
    raise ValueError(
        f"There is no base {spec!r}: give a diffusers folder, a .safetensors checkpoint, or a Hub id such as "
        "owner/name."
    )


def pickle_sentence(name: str) -> str:
    """Return the error message for a pickled file, with the reason and the solution."""
    return (
        f"{name} is a pickle, which can run any program on this machine while it is being opened; "
        "please use the .safetensors version of the same model."
    )


def refusal(what: str, *, name: str) -> str:
    """Return the error message for a model that is not Stable Diffusion 1.x."""
    return f"{name} is {what}; Atelier works with Stable Diffusion 1.4, 1.5 and models derived from them."


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file. Raises ValueError if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{path.parent.name}/{path.name} is missing; the model folder is not complete."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(
            f"{path.parent.name}/{path.name} is not readable JSON; the model folder is damaged."
        ) from None


def read_header(path: Path) -> dict[str, Any]:
    """Return a safetensors header: name -> {"dtype", "shape", "data_offsets"}, and "__metadata__".

    Raises ValueError for a renamed pickle and for a damaged or truncated file.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            if start.startswith(PICKLE_STARTS):
                raise ValueError(pickle_sentence(path.name))
            raise ValueError(
                f"{path.name} is not a safetensors file, or it is cut short; please download it again."
            )
        raw = stream.read(length)
    header, end = parse_header(path.name, raw)
    if size != 8 + length + end:
        raise ValueError(f"{path.name} is cut short or has extra bytes; please download it again.")
    return header


def parse_header(name: str, raw: bytes) -> tuple[dict[str, Any], int]:
    """Return a safetensors header and the end offset of its last tensor. Raises ValueError for an invalid header."""
    try:
        header = json.loads(raw)
        return header, _end_of_data(header)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise ValueError(f"{name} has an unreadable header; please download it again.") from None


def _end_of_data(header: dict[str, Any]) -> int:
    """Return the end offset of the last tensor. Raises ValueError, TypeError or similar for an invalid header."""
    end = 0
    for name, entry in header.items():
        if name == "__metadata__":
            well_formed = all(isinstance(value, str) for value in entry.values())
        else:
            numbers = [*entry["shape"], *entry["data_offsets"]]
            well_formed = isinstance(entry["dtype"], str) and all(type(number) is int for number in numbers)
            end = max(end, entry["data_offsets"][1])
        if not well_formed:
            raise ValueError(name)
    return end


def check_checkpoint(path: Path) -> None:
    """Raise ValueError unless the file is a complete Stable Diffusion 1.x text-to-image checkpoint."""
    header = read_header(path)
    metadata = header.pop("__metadata__", {})
    name = path.name
    if any(mark in key for key in header for mark in ADAPTER_MARKS):
        raise ValueError(
            f"{name} is a LoRA or another adapter, not a base model; please choose the base model that it was made for."
        )
    for mark, what in FAMILY_MARKS:
        if any(mark in key for key in header):
            raise ValueError(refusal(what, name=name))
    _check_channels(_inputs(header, FIRST_LAYER, what="Stable Diffusion UNet", name=name), name=name)
    _check_text_width(_inputs(header, CROSS_ATTENTION, what="cross-attention", name=name), name=name)
    if "v_pred" in header or _says_v_prediction(metadata, path):
        raise ValueError(refusal(PREDICTION_TYPES["v_prediction"], name=name))
    if metadata.get("modelspec.prediction_type") == "sample":
        raise ValueError(refusal(PREDICTION_TYPES["sample"], name=name))
    for prefix, part in (("cond_stage_model.transformer.", "text encoder"), ("first_stage_model.", "VAE")):
        if not any(key.startswith(prefix) for key in header):
            raise ValueError(f"{name} has no {part} in it; please choose a whole checkpoint.")


def check_folder(folder: Path) -> None:
    """Raise ValueError unless the folder is a Stable Diffusion 1.x text-to-image model in safetensors."""
    name = folder.resolve().name
    class_name = str(read_json(folder / "model_index.json").get("_class_name"))
    for prefix, what in OTHER_PIPELINES.items():
        if class_name.startswith(prefix):
            raise ValueError(refusal(what, name=name))
    unet = read_json(folder / "unet" / "config.json")
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    _check_channels(unet.get("in_channels", 4), name=name)
    if not (folder / "atelier.json").is_file():
        _check_text_width(unet.get("cross_attention_dim"), name=name)
    predicted = scheduler.get("prediction_type", "epsilon")
    if predicted != "epsilon":
        what = PREDICTION_TYPES.get(predicted, f"a model of prediction type {predicted!r}")
        raise ValueError(refusal(what, name=name))
    for part in ("unet", "text_encoder", "vae"):
        weights_file(folder / part)


def weights_file(part: Path) -> Path:
    """Return the weights file of one module in a folder; full precision is preferred to fp16."""
    stem = "model" if part.name == "text_encoder" else "diffusion_pytorch_model"
    for name in (f"{stem}.safetensors", f"{stem}.fp16.safetensors"):
        if (part / name).is_file():
            read_header(part / name)
            return part / name
    pickles = sorted(file.name for file in part.glob("*") if file.suffix in PICKLE_SUFFIXES)
    if pickles:
        raise ValueError(pickle_sentence(f"{part.name}/{pickles[0]}"))
    raise ValueError(f"{part.name}/{stem}.safetensors is missing; the model folder is not complete.")


def weight_shapes(spec: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a base's weights by "unet.<module>.weight" and "text_encoder.<module>.weight".

    They are read from the headers of a local folder; {} for any other base.
    """
    place = locate(spec)
    if place.kind != "folder" or place.path is None:
        return {}
    headers = {part: read_header(weights_file(place.path / part)) for part in ("unet", "text_encoder")}
    return {
        f"{part}.{name.removeprefix('text_model.')}": tuple(entry["shape"])
        for part, header in headers.items()
        for name, entry in header.items()
        if name != "__metadata__"
    }


@cache
def family_shapes(family: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a family's weights, named as in :func:`weight_shapes`; none of its weights need be here."""
    if family == EMBEDDED:
        return weight_shapes(EMBEDDED)
    return {
        f"{part}.{name}": tuple(shape)
        for part in ("unet", "text_encoder")
        for name, shape in read_json(ASSETS / "sd1_config" / f"{part}_shapes.json").items()
    }


@dataclass(frozen=True)
class BaseFacts:
    """Facts about a base that need no weights; ``problem`` is a sentence, or "" if the base can be used.

    A base that is neither here nor can be downloaded has a problem, too, and ``blocked`` is True.

    ``kind``: "folder", "file" or "hub", or "" if it was not found. ``size_px`` is the training resolution of a folder.
    ``disk_mb`` is in units of 2^20 bytes.
    """

    spec: str
    name: str
    kind: str = ""
    family: str = "sd1"
    present: bool = False
    problem: str = ""
    blocked: bool = False
    size_px: int | None = None
    guidance_scale: float = SD1_GUIDANCE
    disk_mb: int = SD1_SIZE_MB["float32"]

    @property
    def memory_mb(self) -> int:
        """Memory needed to generate a picture, in MB."""
        return 200 if self.family == EMBEDDED else SD1_SIZE_MB["half"] + 2000

    @property
    def photographs(self) -> str:
        """A sentence on the embedded base's limits with photographs; "" for other bases."""
        return SKETCHES.format(size_px=self.size_px) if self.family == EMBEDDED else ""

    @property
    def needs(self) -> str:
        """One sentence with the hardware or download requirements, or the problem."""
        if self.problem:
            return self.problem
        if self.family == EMBEDDED:
            return "Included in Atelier; runs on any CPU."
        gpu = f"A CUDA GPU with about {self.memory_mb / 1000:.0f} GB is recommended; a CPU takes minutes per picture."
        if self.present:
            return gpu
        return f"A download of about {self.disk_mb / 1000:.1f} GB from the Hugging Face Hub. {gpu}"


def describe_base(spec: str) -> BaseFacts:
    """Return the facts about ``spec`` for the selection of a base, without reading weights."""
    facts = BaseFacts(spec=spec, name=spec)
    try:
        place = locate(spec)
        disk_mb = _disk_mb(place.kind, spec) or facts.disk_mb
        present = place.path is not None
        facts = replace(facts, name=place.name, kind=place.kind, present=present, disk_mb=disk_mb)
        if place.kind == "folder" and place.path is not None:
            check_folder(place.path)
            own = {"size_px": size_of(place.path), "guidance_scale": guidance_of(place.path)}
            return replace(facts, family=family_of(place.path), **own)
        if place.kind == "file" and place.path is not None:
            check_checkpoint(place.path)
        elif place.kind == "hub":
            return _on_the_hub(facts, here=hub_snapshot(place.name, revision=place.revision) is not None)
    except ValueError as error:
        return replace(facts, present=False, problem=str(error))
    return facts


def _on_the_hub(facts: BaseFacts, *, here: bool) -> BaseFacts:
    """Return the facts about a Hub id, with a problem if it would have to be downloaded and cannot be."""
    off = "" if here else downloads_off()
    size = f"a download of about {facts.disk_mb / 1000:.1f} GB"
    problem = (
        f"{facts.name} is not on this machine ({size}), and {off}, or give a folder or a .safetensors file."
    )
    return replace(facts, present=here, blocked=bool(off), problem=problem if off else "")


def family_of(folder: Path) -> str:
    """Return the family, which selects the presets: "embedded" if set in ``atelier.json``, else "sd1"."""
    told = folder / "atelier.json"
    return EMBEDDED if told.is_file() and read_json(told).get("family") == EMBEDDED else "sd1"


def guidance_of(folder: Path) -> float:
    """Return the guidance scale that suits a base: the one in ``atelier.json``, else Stable Diffusion's."""
    told = folder / "atelier.json"
    return float(read_json(told).get("guidance_scale", SD1_GUIDANCE)) if told.is_file() else SD1_GUIDANCE


def size_of(folder: Path) -> int:
    """Return the training resolution of a diffusers folder, in pixels per side."""
    told = folder / "atelier.json"
    if told.is_file() and "sample_px" in (facts := read_json(told)):
        return int(facts["sample_px"])
    cells = int(read_json(folder / "unet" / "config.json").get("sample_size", SD1_SIZE_PX // 8))
    blocks = read_json(folder / "vae" / "config.json").get("block_out_channels", (1, 1, 1, 1))
    return cells * 2 ** (len(blocks) - 1)


def _inputs(header: Mapping[str, Any], key: str, *, what: str, name: str) -> int:
    """Return the input width of a UNet layer. Raises ValueError if the layer is missing or invalid."""
    shape = header.get(key, {"shape": ()})["shape"]
    if len(shape) < 2:
        raise ValueError(f"{name} has no {what} in it; please choose a whole checkpoint.")
    return shape[1]


def _check_channels(channels: int, *, name: str) -> None:
    kinds = {9: "an inpainting model", 8: "an InstructPix2Pix model", 5: "a depth-to-image model"}
    if channels != 4:
        raise ValueError(refusal(kinds.get(channels, f"a model with {channels} input channels"), name=name))


def _check_text_width(width: Any, *, name: str) -> None:
    if width != SD1_TEXT_WIDTH:
        raise ValueError(refusal(TEXT_WIDTHS.get(width, f"a model of text width {width}"), name=name))


def _says_v_prediction(metadata: Mapping[str, str], path: Path) -> bool:
    """Return whether the header, or the .yaml file distributed with such checkpoints, specifies v-prediction."""
    if metadata.get("modelspec.prediction_type", "epsilon").startswith("v"):
        return True
    beside = path.with_suffix(".yaml")
    return beside.is_file() and bool(
        re.search(r"parameterization:\s*[\"']?v\b", beside.read_text(errors="replace"))
    )


def _disk_mb(kind: str, spec: str) -> int:
    if kind not in ("folder", "file"):
        return 0
    path = locate(spec).path
    assert path is not None
    files = [path] if path.is_file() else [file for file in path.rglob("*.safetensors")]
    return round(sum(file.stat().st_size for file in files) / 2**20)


def portable_spec(spec: str) -> str:
    """Return a base's spec if it is the same on any machine (embedded, a Hub id), else ""."""
    try:
        place = locate(spec) if len(spec) <= MAX_SPEC else None
    except (ValueError, OSError):
        return ""
    if place is None:
        return ""
    return spec if spec == EMBEDDED or place.kind == "hub" else ""
