"""Every method in every export format: the format's own reader computes the same output as the run."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import PeftModel
from transformers import CLIPTextModel

from bench.dense_rebuild import rebuilt
from pipelines.adapters import Full, LoRA, Spectral, Words
from pipelines.adapters.block_lora import block_lora
from pipelines.adapters.core import Adapter, injected, read_tensors, save_adapter
from pipelines.adapters.spectral import shifted_weights
from pipelines.adapters.svd_cache import decompose
from pipelines.config import ASSETS
from pipelines.models.base import Base
from pipelines.studio import Studio
from pipelines.unet_blocks import BlockPlan
from tests.tiny import shop_with
from tests.tolerances import assert_close

PROMPTS = ["a photo of a dog", "zwx on the beach"]
WHOLE = 1280  # a rank high enough for an exact LoRA
MADE: dict[str, Callable[[Base], Adapter]] = {
    "dreambooth-text": lambda base: LoRA(rank=2, alpha=1.0, text_encoder_rank=3),
    "dreambooth-full": lambda base: Full(text_encoder=True),
    "block_lora": lambda base: block_lora(
        base, BlockPlan(ranks=(1, 0, 3, 2, 0, 4, 0, 2, 1), conv_ranks=(0, 0, 2, 1, 3, 0, 1, 0, 2))
    ),
    "svdiff": lambda base: Spectral(),
    "svdiff-text": lambda base: Spectral(text_encoder=True),
    "textual_inversion": lambda base: Words(words="zwx"),
}
LORAS = ("dreambooth-text", "dreambooth-full", "block_lora", "svdiff-text")


def moved(make: Callable[[Base], Adapter], base: Base) -> Adapter:
    """Return a trained adapter that changes only matrices, as LoRA and svdiff-pytorch do; not live."""
    adapter = make(base)
    generator = torch.Generator().manual_seed(3)
    with injected(adapter, base), torch.no_grad():
        if isinstance(adapter, Spectral):
            for shift in adapter.shifts.values():
                if shift.form not in ("gain", "rows"):
                    shift.parameter.add_(0.05 * torch.randn(shift.parameter.shape, generator=generator))
            return adapter
        for name, parameter in zip(adapter.state_dict(), adapter.parameters(), strict=True):
            if parameter.dim() > 1 and "embedding.weight" not in name:
                parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))
    return adapter


@torch.no_grad()
def answer(unet: torch.nn.Module, text_encoder: torch.nn.Module, base: Base) -> torch.Tensor:
    """Return the noise prediction for two prompts and fixed noise, with any UNet and text encoder."""
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    contexts = text_encoder(base.token_ids(PROMPTS))[0]
    return unet(latents, torch.tensor([40, 700]), contexts, return_dict=False)[0]


def fresh() -> StableDiffusionPipeline:
    """The embedded base, loaded with plain diffusers."""
    return StableDiffusionPipeline.from_pretrained(ASSETS / "base", torch_dtype=torch.float32)


class Shelf:
    """A Studio with one run per method, and the output of each run."""

    def __init__(self, studio: Studio, base: Base) -> None:
        self.studio, self.base = studio, base
        self.runs: dict[str, str] = {}
        self.live: dict[str, torch.Tensor] = {}
        about = {"spec": "embedded", "family": "embedded", "hash": base.hash, "name": base.name}
        config = {"identifier": "zwx", "class_noun": "dog"}
        for name, make in MADE.items():
            adapter = moved(make, base)
            with injected(adapter, base):
                self.live[name] = answer(base.unet, base.text_encoder, base)
            with studio.resources.store.draft(name.partition("-")[0], config, about, name=name) as run:
                save_adapter(run.file("adapter.safetensors"), adapter, extra={"config": config})
                run.append("state", state="done", message="")
            self.runs[name] = run.id

    def export(self, name: str, format: str) -> Path:
        return self.studio.import_export.export(self.runs[name], format, rank=WHOLE)


@pytest.fixture(scope="module")
def shelf(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    folder = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATELIER_HOME", str(folder))
        studio = Studio(folder, model_cache=shop_with(base))
        made = Shelf(studio, base)
        untouched = answer(base.unet, base.text_encoder, base)
        assert all((live - untouched).abs().max() > 1e-3 for live in made.live.values())
        yield made
        studio.close()


@pytest.mark.parametrize("format", ["diffusers", "kohya"])
@pytest.mark.parametrize("name", LORAS)
def test_diffusers_loads_every_lora(shelf: Shelf, name: str, format: str) -> None:
    path, pipe = shelf.export(name, format), fresh()
    pipe.load_lora_weights(path.parent, weight_name=path.name)
    found = answer(pipe.unet, pipe.text_encoder, shelf.base)
    assert_close(found, shelf.live[name], dtype=torch.float16 if format == "kohya" else torch.float32)


@pytest.mark.parametrize("name", LORAS)
def test_peft_loads_every_folder(shelf: Shelf, name: str, tmp_path: Path) -> None:
    whole = tmp_path / "peft"
    shutil.unpack_archive(shelf.export(name, "peft"), whole)
    parts = {"unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}
    loaded = {part: kind.from_pretrained(ASSETS / "base" / part).eval() for part, kind in parts.items()}
    for part, model in loaded.items():
        folder = whole / part if (whole / part).is_dir() else whole
        if part == "unet":
            loaded[part] = PeftModel.from_pretrained(model, folder)
        elif folder != whole:
            model.load_adapter(str(folder))
    assert_close(answer(loaded["unet"], loaded["text_encoder"], shelf.base), shelf.live[name])


@pytest.mark.parametrize("name", ["svdiff", "svdiff-text"])
@torch.no_grad()
def test_svdiff_pytorch_rebuilds_the_run_from_its_files(shelf: Shelf, name: str, tmp_path: Path) -> None:
    """Compute the weights as svdiff-pytorch's layers do: U diag(ReLU(σ + δ)) Vᵀ, a norm's weight as one row.

    The file has exactly one key per weight.
    """
    folder = tmp_path / "shifts"
    shutil.unpack_archive(shelf.export(name, "svdiff"), folder)
    pipe = fresh()
    parts = {"spectral_shifts": (pipe.unet, ""), "spectral_shifts_te": (pipe.text_encoder, "text_model.")}
    files = {path.stem for path in folder.iterdir()}
    assert files == (set(parts) if name == "svdiff-text" else {"spectral_shifts"})
    for file in files:
        module, prefix = parts[file]
        told, metadata = read_tensors(folder / f"{file}.safetensors")
        assert (told.keys(), metadata) == ({f"{prefix}{path}.delta" for path in shifted_weights(module)}, {})
        for key, delta in told.items():
            weight = module.get_submodule(key.removeprefix(prefix).removesuffix(".delta")).weight
            weight.copy_(rebuilt(decompose(weight[None] if weight.dim() == 1 else weight), delta, weight))
    assert_close(answer(pipe.unet, pipe.text_encoder, shelf.base), shelf.live[name])


@pytest.mark.parametrize("name", [name for name in MADE if name != "svdiff"])
def test_every_run_becomes_a_base_that_diffusers_opens(shelf: Shelf, name: str, tmp_path: Path) -> None:
    packed, told = shelf.studio.import_export.merge_into_base(shelf.runs[name])
    assert told.endswith("tensors, largest difference 0")
    shutil.unpack_archive(packed, tmp_path / "bases")
    (folder,) = (tmp_path / "bases").iterdir()
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True)
    assert_close(answer(pipe.unet, pipe.text_encoder, shelf.base), shelf.live[name])
