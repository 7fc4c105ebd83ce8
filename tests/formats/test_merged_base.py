"""A run merged permanently into its base: diffusers opens the file and generates the same picture as the live run."""

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from ldm import narrow_sd1, write_checkpoint
from safetensors.torch import load_file

import pipelines.models.base as base_module
from pipelines.adapters.core import injected, merged, save_adapter
from pipelines.adapters.lora import LoRA
from pipelines.config import ASSETS, SampleConfig
from pipelines.formats.merged_base import _compare
from pipelines.jobs.model_cache import ModelCache
from pipelines.models.base import Base, load_base
from pipelines.sampling.sample import sample
from pipelines.studio import Studio
from tests.tiny import pixels, shop_with, visible_lora
from tests.tolerances import assert_close

PICTURE = SampleConfig(prompt="a photo of a zwx dog", steps=2, seed=5, size_px=64, scheduler="DDIM")


def shelved(studio: Studio, adapter: LoRA, base: Base) -> str:
    """Return a finished run that holds an adapter."""
    about = {"spec": base.spec, "family": base.family, "hash": base.hash, "name": base.name}
    config = {"identifier": "zwx", "class_noun": "dog"}
    with studio.resources.store.draft("dreambooth", config, about, name="Rex") as run:
        save_adapter(run.file("adapter.safetensors"), adapter, extra={"config": config})
        run.append("state", state="done", message="")
    return run.id


@pytest.fixture
def studio(base: Base, tmp_path: Path) -> Iterator[Studio]:
    made = Studio(tmp_path / "data", devices=["cpu"], model_cache=shop_with(base))
    yield made
    made.close()


def test_the_folder_opens_in_diffusers_and_draws_the_live_runs_picture(
    studio: Studio, base: Base, tmp_path: Path
) -> None:
    adapter = visible_lora(base)
    run_id = shelved(studio, adapter, base)
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    packed, told = studio.import_export.merge_into_base(run_id)
    count = sum(len(part.state_dict()) for part in (base.unet, base.vae, base.text_encoder))
    assert told == f"{count}/{count} tensors, largest difference 0"
    assert all(value.equal(before[name]) for name, value in base.unet.state_dict().items())
    assert packed.name == "Rex-merged.zip"
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path)
    assert not list(packed.parent.glob(".*")), "no half of anything is left behind"
    folder = tmp_path / packed.stem
    theirs = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    theirs.scheduler = DDIMScheduler.from_config(base.pipeline("DDIM").scheduler.config)
    theirs.set_progress_bar_config(disable=True)
    asked = {"num_inference_steps": 2, "guidance_scale": 3.0, "height": 64, "width": 64, "output_type": "pt"}
    noise = [torch.Generator().manual_seed(5) for _ in range(2)]
    merged = theirs(PICTURE.prompt, generator=noise[0], **asked).images
    with injected(adapter, base), torch.no_grad():
        live = base.pipeline("DDIM")(PICTURE.prompt, generator=noise[1], **asked).images
    assert_close(merged, live)
    again = load_base(str(folder), device="cpu")
    assert (again.family, again.name, again.size_px) == (base.family, folder.name, base.size_px)
    assert "zwx dog" in (folder / "README.md").read_text()


def test_a_weaker_merge_is_the_weaker_picture_to_the_bit(studio: Studio, base: Base, tmp_path: Path) -> None:
    run_id = shelved(studio, visible_lora(base), base)
    with zipfile.ZipFile(studio.import_export.merge_into_base(run_id, strength=0.5)[0]) as archive:
        archive.extractall(tmp_path)
        folder = tmp_path / Path(archive.namelist()[0]).parts[0]
    (drawn,) = studio.generation.generate(PICTURE, run_id=run_id, strength=0.5)
    again = load_base(str(folder), device="cpu")
    assert sample(again, [], PICTURE).images[0].tobytes() == pixels(drawn)
    (untouched,) = studio.generation.generate(replace(PICTURE, prompt="a photo of a zwx dog"))
    assert pixels(untouched) != pixels(drawn)


def test_one_checkpoint_of_a_stable_diffusion_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    tensors = narrow_sd1(tmp_path / "configs")
    monkeypatch.setattr(base_module, "SD1_CONFIG", tmp_path / "configs")
    narrow = load_base(str(write_checkpoint(tmp_path / "narrow.safetensors", tensors)), device="cpu")
    adapter = LoRA(rank=1, alpha=1.0, text_encoder_rank=1, seed=5)
    adapter.inject(narrow).remove()
    for parameter in adapter.parameters():
        parameter.data.fill_(0.05)
    shop = ModelCache("cpu")
    shop._bases[narrow.spec] = narrow
    studio = Studio(tmp_path / "data", devices=["cpu"], model_cache=shop)
    path, told = studio.import_export.merge_into_base(shelved(studio, adapter, narrow), "checkpoint")
    assert path.name == "Rex-merged.safetensors"
    assert told.endswith("largest difference 0"), "read back through diffusers' own converters"
    written = load_file(path)
    moved = [name for name, value in written.items() if not value.equal(tensors[name])]
    changes = dict(adapter.changes(narrow, 1.0))
    assert len(moved) == len(changes)
    to_q = "transformer_blocks.0.attn1.to_q.weight"
    there, here = f"model.diffusion_model.middle_block.1.{to_q}", f"unet.mid_block.attentions.0.{to_q}"
    assert_close(written[there] - tensors[there], changes[here])
    shutil.copy(ASSETS / "base" / "model_index.json", tmp_path / "configs")
    theirs = StableDiffusionPipeline.from_single_file(
        str(path), config=str(tmp_path / "configs"), local_files_only=True
    )
    with merged(narrow, [(adapter, 1.0)]):
        for part in ("unet", "vae", "text_encoder"):
            found, expected = (getattr(whole, part).state_dict() for whole in (theirs, narrow))
            assert found.keys() == expected.keys()
            assert all(value.equal(expected[name]) for name, value in found.items())
    studio.close()


def test_what_did_not_come_back_is_said() -> None:
    one = {"a": torch.zeros(2)}
    assert _compare([one], [one], name="x") == "1/1 tensors, largest difference 0"
    for other in ({}, {"a": torch.zeros(3)}, {"a": torch.full((2,), 0.5)}):
        with pytest.raises(ValueError, match="was not read back as it was written"):
            _compare([other], [one], name="x")
