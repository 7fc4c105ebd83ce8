"""A complete Stable Diffusion model: tokenizer, text encoder, VAE, UNet, noise schedule, device, dtype.

Other modules use a :class:`Base` instead of the libraries directly, so that the embedded base, a diffusers folder, a
Hub model and a single checkpoint file are interchangeable.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from safetensors import safe_open
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipelines.config import ASSETS
from pipelines.data.photographs import Moments
from pipelines.files import data_root, write_json
from pipelines.models.hub import fetch_model
from pipelines.models.inspection import (
    EMBEDDED,
    LDM_PREFIXES,
    SD1_GUIDANCE,
    SD1_SIZE_PX,
    check_checkpoint,
    check_folder,
    describe_base,
    family_of,
    guidance_of,
    locate,
    read_json,
    size_of,
    weights_file,
)

__all__ = ["Base", "describe_base", "load_base"]

SD1_CONFIG = ASSETS / "sd1_config"
REMEMBER_HASH_BYTES = 2**28
SCHEDULER_CLASSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "DPM++ 2M Karras": (
        DPMSolverMultistepScheduler,
        {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True},
    ),
    "DDIM": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}),
    "Euler a": (EulerAncestralDiscreteScheduler, {"steps_offset": 1}),
    "UniPC": (UniPCMultistepScheduler, {}),
}


@dataclass(eq=False)
class Base:
    """A loaded, frozen base model. Only adapters change its weights, and they restore them."""

    spec: str
    family: str  # "embedded" | "sd1"; selects the presets
    name: str
    hash: str  # sha256 over the weights files of UNet, text encoder and VAE
    # Any, because the annotations of diffusers and transformers do not match their classes.
    unet: Any  # diffusers.UNet2DConditionModel
    text_encoder: Any  # transformers.CLIPTextModel
    vae: Any  # diffusers.AutoencoderKL
    tokenizer: Any  # transformers.CLIPTokenizer
    scheduler_config: dict[str, Any]
    device: torch.device
    dtype: torch.dtype
    size_px: int
    guidance_scale: float
    avoid: tuple[
        str, ...
    ] = ()  # vocabulary entries that were not in its training data, unsuitable as identifiers
    _pipelines: dict[str, StableDiffusionPipeline] = field(default_factory=dict, repr=False)

    def module(self, prefix: str) -> nn.Module:
        """Return the module for an adapter's key prefix: "unet" or "text_encoder"."""
        return {"unet": self.unet, "text_encoder": self.text_encoder}[prefix]

    @property
    def context(self) -> int:
        """T: the number of tokens of a prompt, including the start and end tokens."""
        return int(self.text_encoder.config.max_position_embeddings)

    @property
    def scaling_factor(self) -> float:
        """The factor by which VAE latents are multiplied for the UNet."""
        return float(self.vae.config.scaling_factor)

    @property
    def vae_factor(self) -> int:
        """The number of pixels per latent cell along one side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @cached_property
    def alphas_cumprod(self) -> torch.Tensor:
        """ᾱ of the base's training noise schedule, (1000,) float32 on the CPU."""
        scheduler: Any = DDPMScheduler.from_config(self.scheduler_config)
        return scheduler.alphas_cumprod.float()

    def token_ids(self, prompts: list[str]) -> torch.Tensor:
        """Return (B, T) token ids on the CPU, padded or truncated to the context length."""
        return self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=self.context, return_tensors="pt"
        ).input_ids

    def overflow(self, prompt: str) -> str:
        """Return the part of ``prompt`` that is truncated by the context length, or ""."""
        ids = self.tokenizer(prompt, add_special_tokens=False, truncation=False, verbose=False).input_ids
        return self.tokenizer.decode(ids[self.context - 2 :]).strip()

    def encode_prompts(self, prompts: list[str], *, grad: bool = False) -> torch.Tensor:
        """Return prompt embeddings (B, T, C) in the base's dtype; ``grad`` enables gradients of the text encoder."""
        with torch.set_grad_enabled(grad):
            return self.text_encoder(self.token_ids(prompts).to(self.device))[0].to(self.dtype)

    @torch.no_grad()
    def encode_images(self, pixels: torch.Tensor) -> Moments:
        """Return the VAE moments of pixels (B, 3, H, W) in [-1, 1]: float32, on the CPU, unscaled."""
        moments = self.vae.encode(pixels.to(self.device, self.dtype)).latent_dist
        return Moments(mean=moments.mean.float().cpu(), logvar=moments.logvar.float().cpu())

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode scaled latents (B, 4, h, w) to pixels (B, 3, H, W), float32 on the CPU, approximately in [-1, 1]."""
        unscaled = latents.to(self.device, self.dtype) / self.scaling_factor
        return self.vae.decode(unscaled).sample.float().cpu()

    @cached_property
    def latent_colours(self) -> torch.Tensor:
        """The linear map (5, 3) from a latent cell and a constant 1 to its mean RGB in [-1, 1], for previews.

        Fitted once by least squares to this VAE's encodings of smooth color fields.
        """
        generator = torch.Generator().manual_seed(0)
        fields = torch.rand(8, 3, 4, 4, generator=generator) * 2.0 - 1.0
        pixels = nn.functional.interpolate(fields, size=16 * self.vae_factor, mode="bilinear")
        latents = self.encode_images(pixels).mean * self.scaling_factor
        cells = nn.functional.pad(latents.movedim(1, -1).flatten(0, 2), (0, 1), value=1.0)
        colours = nn.functional.avg_pool2d(pixels, self.vae_factor).movedim(1, -1).flatten(0, 2)
        return torch.linalg.lstsq(cells, colours, driver="gelsd").solution

    def pipeline(self, scheduler: str) -> StableDiffusionPipeline:
        """Return a diffusers pipeline of these modules, created once per scheduler. ValueError for an unknown name."""
        if scheduler not in SCHEDULER_CLASSES:
            raise ValueError(
                f"There is no sampler {scheduler!r}; choose one of {', '.join(SCHEDULER_CLASSES)}."
            )
        if scheduler not in self._pipelines:
            scheduler_class, options = SCHEDULER_CLASSES[scheduler]
            left_out: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
            pipe = StableDiffusionPipeline(
                vae=self.vae,
                text_encoder=self.text_encoder,
                tokenizer=self.tokenizer,
                unet=self.unet,
                scheduler=scheduler_class.from_config(self.scheduler_config, **options),
                requires_safety_checker=False,
                **left_out,
            )
            pipe.set_progress_bar_config(disable=True)
            self._pipelines[scheduler] = pipe
        return self._pipelines[scheduler]


def load_base(spec: str = EMBEDDED, *, device: str | None = None, dtype: torch.dtype | None = None) -> Base:
    """Load "embedded", a diffusers folder, a Hub id ("owner/name[@revision]") or one checkpoint file.

    A Hub id is loaded from the local cache, and downloaded only if ``ATELIER_HUB=1`` is set. The default device is CUDA
    if available; the default dtype is float16 on CUDA and float32 elsewhere. Raises ValueError that names the kind of
    model for anything but Stable Diffusion 1.x in safetensors.
    """
    place = locate(spec)
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kind = dtype or (torch.float16 if target.type == "cuda" else torch.float32)
    if place.kind == "file":
        assert place.path is not None
        check_checkpoint(place.path)
        base = _load_file(place.path, spec=spec, name=place.name, dtype=kind)
    else:
        folder = place.path if place.path is not None else fetch_model(place.name, revision=place.revision)
        check_folder(folder)
        base = _load_folder(folder, spec=spec, name=place.name, dtype=kind)
    for part in (base.unet, base.text_encoder, base.vae):
        part.requires_grad_(False).eval().to(target)
        for parameter in part.parameters() if target.type == "cpu" else ():
            # Memory-mapped weights may be unaligned, which changes the summation order of kernels. After a copy,
            # the same weights give bit-exact results for every file format.
            parameter.data = parameter.data.clone()
    base.device = target
    base.tokenizer.model_max_length = base.context
    return base


def _load_folder(folder: Path, *, spec: str, name: str, dtype: torch.dtype) -> Base:
    """Load the modules of a validated diffusers folder, without safety checker and feature extractor."""
    files = [weights_file(folder / part) for part in ("unet", "text_encoder", "vae")]
    variants = ["fp16" if file.stem.endswith(".fp16") else None for file in files]
    local = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    kinds: tuple[Any, ...] = (UNet2DConditionModel, CLIPTextModel, AutoencoderKL)
    parts: list[Any] = []
    for kind, file, variant in zip(kinds, files, variants, strict=True):
        precision = {"dtype" if file.parent.name == "text_encoder" else "torch_dtype": dtype}
        part, info = kind.from_pretrained(
            folder, subfolder=file.parent.name, variant=variant, **precision, **local
        )
        _check_complete(file, missing=sorted(info["missing_keys"]), shapes=sorted(info["mismatched_keys"]))
        parts.append(part)
    unet, text_encoder, vae = parts
    card = folder / "atelier.json"
    told = read_json(card) if card.is_file() else {}
    return Base(
        spec=spec,
        family=family_of(folder),
        name=name,
        hash=_hash_files(files),
        unet=unet,
        text_encoder=text_encoder,
        vae=vae,
        tokenizer=CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", local_files_only=True),
        scheduler_config=read_json(folder / "scheduler" / "scheduler_config.json"),
        device=torch.device("cpu"),
        dtype=dtype,
        size_px=size_of(folder),
        guidance_scale=guidance_of(folder),
        avoid=tuple(told.get("unseen_words", ())),
    )


def _load_file(path: Path, *, spec: str, name: str, dtype: torch.dtype) -> Base:
    """Load a validated single-file checkpoint with the shipped configs and diffusers' converters."""
    with safe_open(path, framework="pt") as weights:
        names = [name for name in weights.keys() if name.startswith(LDM_PREFIXES)]  # noqa: SIM118
        tensors = {name: weights.get_tensor(name).to(dtype) for name in names}
    unet_config: Any = UNet2DConditionModel.load_config(SD1_CONFIG, subfolder="unet")
    vae_config: Any = AutoencoderKL.load_config(SD1_CONFIG, subfolder="vae")
    with init_empty_weights():
        unet: Any = UNet2DConditionModel.from_config(unet_config)
        vae: Any = AutoencoderKL.from_config(vae_config)
        text_encoder: Any = CLIPTextModel(
            CLIPTextConfig.from_pretrained(SD1_CONFIG, subfolder="text_encoder")
        )
    try:
        unet_tensors = convert_ldm_unet_checkpoint(tensors, unet_config)
        vae_tensors = convert_ldm_vae_checkpoint(tensors, vae_config)
    except (KeyError, IndexError) as error:
        raise ValueError(
            f"{path.name} lacks tensors of Stable Diffusion 1.x ({error}); choose another."
        ) from error
    clip = {name.removeprefix("text_model."): x for name, x in convert_ldm_clip_checkpoint(tensors).items()}
    for part, converted in ((unet, unet_tensors), (vae, vae_tensors), (text_encoder, clip)):
        _fill(part, converted, file=path)
    return Base(
        spec=spec,
        family="sd1",
        name=name,
        hash=_hash_files([path]),
        unet=unet,
        text_encoder=text_encoder,
        vae=vae,
        tokenizer=CLIPTokenizer.from_pretrained(SD1_CONFIG, subfolder="tokenizer", local_files_only=True),
        scheduler_config=read_json(SD1_CONFIG / "scheduler" / "scheduler_config.json"),
        device=torch.device("cpu"),
        dtype=dtype,
        size_px=SD1_SIZE_PX,
        guidance_scale=SD1_GUIDANCE,
    )


def _fill(part: nn.Module, tensors: dict[str, torch.Tensor], *, file: Path) -> None:
    """Assign all weights of a module on the meta device; tensors that it does not have are ignored."""
    expected = part.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    shapes = [name for name in expected if name in tensors and tensors[name].shape != expected[name].shape]
    _check_complete(file, missing=missing, shapes=sorted(shapes))
    part.load_state_dict({name: tensors[name] for name in expected}, assign=True)


def _check_complete(file: Path, *, missing: list[str], shapes: list[Any]) -> None:
    """Raise ValueError if required weights are missing or have another shape."""
    if missing or shapes:
        first = missing[0] if missing else shapes[0]
        raise ValueError(
            f"{file.name} lacks {len(missing) + len(shapes)} tensors of Stable Diffusion 1.x, the first is "
            f"{first}; please download the model again or choose another."
        )


def _hash_files(files: list[Path]) -> str:
    """Return one sha256 over the content of several weights files, in the order given."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(bytes.fromhex(_hash_file(file)))
    return whole.hexdigest()


def _hash_file(file: Path) -> str:
    """Return the sha256 of a file; for large files it is cached in the data folder by path, size and time."""
    facts = file.stat()
    large = facts.st_size > REMEMBER_HASH_BYTES
    memory = data_root() / "weights_hashes.json"
    key = f"{file.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"
    known = read_json(memory) if large and memory.is_file() else {}
    if key in known:
        return known[key]
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if large:
        write_json(memory, {**known, key: digest})
    return digest
