"""The base model: embedded, with the true Stable Diffusion 1.5 configuration, from a single file; and refused files."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from ldm import ldm_tensors, narrow_sd1, write_checkpoint
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import pipelines.models.base as base_module
from pipelines.adapters.core import injected
from pipelines.config import ASSETS, SCHEDULERS, DreamBoothConfig
from pipelines.data.photographs import Moments
from pipelines.data.subject import Subject
from pipelines.formats import lora as formats
from pipelines.methods.specs import METHODS
from pipelines.models.base import SCHEDULER_CLASSES, SD1_CONFIG, Base, load_base
from pipelines.models.hub import choose_files
from pipelines.models.inspection import EMBEDDED, check_checkpoint, describe_base, locate, read_header
from pipelines.training.loop import train


def empty_unet() -> UNet2DConditionModel:
    """Stable Diffusion 1.5's UNet on the meta device (no memory is allocated)."""
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(
            UNet2DConditionModel.load_config(SD1_CONFIG, subfolder="unet")
        )


def test_sd15_configs_have_the_published_counts() -> None:
    unet = empty_unet()
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(SD1_CONFIG, subfolder="vae"))
        text = CLIPTextModel(CLIPTextConfig.from_pretrained(SD1_CONFIG, subfolder="text_encoder"))
    shapes = [value.shape for name, value in unet.named_parameters() if name.endswith(".weight")]
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964
    assert len(unet.state_dict()) == 686
    assert [sum(len(shape) == rank for shape in shapes) for rank in (1, 2, 4)] == [109, 184, 98]
    assert sum(p.numel() for p in text.parameters()) == 123_060_480
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    assert vae.config.scaling_factor == 0.18215


def test_embedded_unet_has_the_names_of_sd15(base: Base) -> None:
    assert set(base.unet.state_dict()) == set(empty_unet().state_dict())


def test_sd1_tokenizer_is_clips() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(SD1_CONFIG, subfolder="tokenizer")
    assert len(tokenizer) == 49_408
    assert tokenizer.convert_ids_to_tokens(42_170) == "ktn"
    assert tokenizer("a photo of").input_ids == [49_406, 320, 1125, 539, 49_407]
    assert tokenizer.pad_token_id == 49_407


def test_embedded_base_is_whole_frozen_and_small(base: Base) -> None:
    assert (base.family, base.size_px, base.context, base.vae_factor) == ("embedded", 128, 40, 8)
    assert base.tokenizer.model_max_length == 40
    assert not any(
        p.requires_grad for part in (base.unet, base.text_encoder, base.vae) for p in part.parameters()
    )
    assert base.alphas_cumprod.shape == (1000,)
    assert base.alphas_cumprod[-1] == pytest.approx(0.00466, abs=1e-4)
    assert len(base.hash) == 64


def test_encode_and_decode_have_the_promised_shapes(base: Base) -> None:
    prompts = base.encode_prompts(["a dog", "a cat in the rain"])
    moments = base.encode_images(torch.zeros(2, 3, 128, 128))
    assert prompts.shape == (2, 40, base.text_encoder.config.hidden_size)
    assert not prompts.requires_grad
    assert moments.mean.shape == moments.logvar.shape == (2, 4, 16, 16)
    assert base.decode(moments.mean * base.scaling_factor).shape == (2, 3, 128, 128)


def test_prompt_embeddings_are_the_pipelines(base: Base) -> None:
    theirs, _ = base.pipeline("DDIM").encode_prompt("a red tower", "cpu", 1, False)
    assert torch.equal(base.encode_prompts(["a red tower"]), theirs)


def test_overflow_names_the_words_that_are_cut(base: Base) -> None:
    long = " ".join(["dog"] * 38 + ["cat", "tower"])
    assert base.overflow("a dog") == ""
    assert base.overflow(" ".join(["dog"] * 38)) == ""
    assert base.overflow(long) == "cat tower"


def test_every_sampler_of_the_form_has_a_scheduler(base: Base) -> None:
    assert tuple(SCHEDULER_CLASSES) == SCHEDULERS
    assert base.pipeline("DDIM") is base.pipeline("DDIM")
    with pytest.raises(ValueError, match="choose one of"):
        base.pipeline("Heun")


def test_a_ddim_step_is_the_papers_and_clips_no_latent(base: Base) -> None:
    """Song et al. 2020, eq. 12, σ = 0: x ← √ᾱ′ x̂₀ + √(1 − ᾱ′) ε, where x̂₀ = (x − √(1 − ᾱ) ε) / √ᾱ is not clipped."""
    kind, options = SCHEDULER_CLASSES["DDIM"]
    scheduler = kind.from_config(
        base.scheduler_config, **options
    )  # the diffusers pipeline corrects the config of a clipping scheduler
    scheduler.set_timesteps(10)
    x, noise = 4 * torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    times = scheduler.timesteps.tolist()
    assert times[-1] == 1
    for time, following in zip(times, [*times[1:], 0], strict=True):
        alpha, after = base.alphas_cumprod[time], base.alphas_cumprod[following]
        clean = (x - (1 - alpha).sqrt() * noise) / alpha.sqrt()
        assert clean.abs().max() > 1
        found = scheduler.step(noise, time, x).prev_sample
        torch.testing.assert_close(
            found, after.sqrt() * clean + (1 - after).sqrt() * noise, rtol=1e-4, atol=1e-4
        )


def test_dpm_solver_follows_karras_sigmas(base: Base) -> None:
    """Karras et al. 2022, eq. 5: σ^(1/ρ) decreases linearly from the largest to the smallest value, ρ = 7."""
    scheduler = base.pipeline("DPM++ 2M Karras").scheduler
    scheduler.set_timesteps(9)
    noise_to_signal = ((1 - base.alphas_cumprod) / base.alphas_cumprod).sqrt()
    roots = torch.linspace(float(noise_to_signal[-1]) ** (1 / 7), float(noise_to_signal[0]) ** (1 / 7), 9)
    torch.testing.assert_close(scheduler.sigmas[:-1], roots**7, rtol=1e-3, atol=1e-4)


def test_the_folder_loads_unaided_with_diffusers_own_pipeline(base: Base) -> None:
    theirs = StableDiffusionPipeline.from_pretrained(ASSETS / "base", safety_checker=None)
    ours = base.unet.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in theirs.unet.state_dict().items())


def test_hash_follows_the_weights_and_not_the_place(base: Base, tmp_path: Path) -> None:
    copy = shutil.copytree(ASSETS / "base", tmp_path / "copy")
    assert load_base(str(copy), device="cpu").hash == base.hash
    (copy / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_base(str(copy), device="cpu")


def test_large_hashes_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, atelier_home: Path
) -> None:
    monkeypatch.setattr(base_module, "REMEMBER_HASH_BYTES", 3)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"weights")
    first = base_module._hash_file(file)
    memory = json.loads((atelier_home / "weights_hashes.json").read_text())
    assert list(memory.values()) == [first] == [base_module._hash_file(file)]
    file.write_bytes(b"others")
    assert base_module._hash_file(file) != first


# Single-file checkpoints


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A narrow checkpoint's configs and tensors."""
    folder = tmp_path_factory.mktemp("narrow")
    return folder, narrow_sd1(folder)


def test_a_checkpoint_file_comes_back_exactly(
    narrow: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tensors = narrow
    monkeypatch.setattr(base_module, "SD1_CONFIG", folder)
    ema = {"model_ema.decay": torch.tensor(0.5)}
    path = write_checkpoint(tmp_path / "model.safetensors", {**tensors, **ema})
    loaded = load_base(str(path), device="cpu")
    again = ldm_tensors(loaded.unet, loaded.vae, loaded.text_encoder)
    assert set(again) == set(tensors)
    assert all(torch.equal(again[name], value) for name, value in tensors.items())
    assert (loaded.family, loaded.size_px, loaded.name) == ("sd1", 512, "model")
    assert all(part.dtype == torch.float32 for part in (loaded.unet, loaded.vae, loaded.text_encoder))


def test_a_checkpoint_file_makes_the_picture_of_its_folder(
    narrow: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tensors = narrow
    monkeypatch.setattr(base_module, "SD1_CONFIG", folder)
    file = load_base(str(write_checkpoint(tmp_path / "model.safetensors", tensors)), device="cpu")
    file.pipeline("DDIM").save_pretrained(tmp_path / "model")
    saved = load_base(str(tmp_path / "model"), device="cpu")
    pictures = []
    for one in (file, saved):
        noise = torch.Generator().manual_seed(1)
        options = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "pt"}
        pictures.append(one.pipeline("DDIM")("a dog", generator=noise, **options).images)
    assert saved.family == "sd1"
    assert torch.equal(*pictures)


def test_a_half_checkpoint_loads_in_the_dtype_asked_for(
    narrow: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tensors = narrow
    monkeypatch.setattr(base_module, "SD1_CONFIG", folder)
    half = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    path = write_checkpoint(tmp_path / "half.safetensors", half)
    for dtype in (torch.float32, torch.bfloat16):
        loaded = load_base(str(path), device="cpu", dtype=dtype)
        parts = (loaded.unet, loaded.vae, loaded.text_encoder)
        assert {p.dtype for part in parts for p in part.parameters()} == {dtype}
        assert loaded.encode_prompts(["a dog"]).dtype == dtype


def test_a_checkpoint_with_a_missing_tensor_is_refused_naming_it(
    narrow: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tensors = narrow
    monkeypatch.setattr(base_module, "SD1_CONFIG", folder)
    fewer = {name: value for name, value in tensors.items() if "output_blocks.11.1.proj_out.bias" not in name}
    with pytest.raises(ValueError, match=r"lacks 1 tensors .* up_blocks\.3\.attentions\.2\.proj_out\.bias"):
        load_base(str(write_checkpoint(tmp_path / "torn.safetensors", fewer)), device="cpu")


@pytest.mark.slow
def test_true_sd15_size_from_one_file_makes_a_picture(tmp_path: Path) -> None:
    """Write all 1.07 billion parameters (random values) in LDM layout, read them back, generate one tiny picture."""
    parts = []
    for kind, name in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae")):
        with torch.device("meta"):
            part = kind.from_config(kind.load_config(SD1_CONFIG, subfolder=name))
        parts.append(part.to(torch.bfloat16).to_empty(device="cpu"))
    with torch.device("meta"):
        text = CLIPTextModel(CLIPTextConfig.from_pretrained(SD1_CONFIG, subfolder="text_encoder"))
    parts.append(text.to(torch.bfloat16).to_empty(device="cpu"))
    generator = torch.Generator().manual_seed(0)
    for part in parts:
        for value in part.parameters():
            value.data.normal_(std=0.02, generator=generator)
    path = write_checkpoint(tmp_path / "sd15.safetensors", ldm_tensors(*parts))
    loaded = load_base(str(path), device="cpu", dtype=torch.bfloat16)
    theirs = (loaded.unet, loaded.vae, loaded.text_encoder)
    for before, after in zip(parts, theirs, strict=True):
        kept = dict(after.named_parameters())
        assert all(torch.equal(value, kept[name]) for name, value in before.named_parameters())
    noise = torch.Generator().manual_seed(1)
    options = {"num_inference_steps": 2, "height": 64, "width": 64, "output_type": "pt", "generator": noise}
    picture = loaded.pipeline("DPM++ 2M Karras")("a photo of a dog", **options).images
    assert picture.shape == (1, 3, 64, 64)
    assert picture.isfinite().all()
    one_step_and_every_export(loaded, tmp_path)


def one_step_and_every_export(base: Base, folder: Path) -> None:
    """Run one DreamBooth update of a rank-4 LoRA on 8x8 latents; then check the tensor names of each export format."""
    config = DreamBoothConfig(prior_preservation=True, steps=1, rank=4, targets="attention", class_images=1)
    still = Moments(mean=torch.randn(1, 4, 8, 8), logvar=torch.full((1, 4, 8, 8), -20.0))
    photos = Subject("sks", "person", moments=still, captions=("",), names=("00.png",), class_moments=still)
    method = METHODS["dreambooth"].load()
    adapter = method.adapter(base, config, ())
    before = base.unet.conv_in.weight.clone()
    with injected(adapter, base):
        draw = method.batches(base, [photos], config)
        (step,) = train(base, adapter, draw, method.loss, config)
        assert set(step.terms) == {"instance", "prior"}
        assert step.grad_norm > 0
    assert torch.equal(before, base.unet.conv_in.weight)
    assert (
        sum(value.numel() for value in adapter.state_dict().values()) == 797_184
    )  # METHODS: DreamBooth LoRA, r = 4
    block = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
    formats.write_diffusers(folder / "diffusers.safetensors", adapter)
    formats.write_kohya(folder / "kohya.safetensors", adapter)
    formats.write_peft(folder / "peft", adapter)
    named = {
        "diffusers.safetensors": f"unet.{block}.lora_A.weight",
        "kohya.safetensors": f"lora_unet_{block.replace('.', '_')}.lora_down.weight",
        "peft/adapter_model.safetensors": f"base_model.model.{block}.lora_A.weight",
    }
    for name, key in named.items():
        with safe_open(folder / name, framework="pt") as file:
            assert key in file.keys()  # noqa: SIM118 (not a dict)


# Refused files: the message contains the file name


def header_file(path: Path, shapes: dict[str, tuple[int, ...]], **metadata: str) -> Path:
    """Write a checkpoint of zeros that has only the tensors needed to recognise its architecture."""
    return write_checkpoint(path, {name: torch.zeros(shape) for name, shape in shapes.items()}, **metadata)


CONV_IN = "model.diffusion_model.input_blocks.0.0.weight"
CROSS_KEY = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
SD1_MARKS = {
    CONV_IN: (4, 4, 3, 3),
    CROSS_KEY: (4, 768),
    "cond_stage_model.transformer.text_model.x": (1,),
    "first_stage_model.x": (1,),
}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({CROSS_KEY: (4, 1024)}, "Stable Diffusion 2"),
        ({"cond_stage_model.model.positional_embedding": (1,)}, "Stable Diffusion 2"),
        ({"conditioner.embedders.1.model.ln_final.bias": (1,)}, "Stable Diffusion XL"),
        ({"model.diffusion_model.joint_blocks.0.x": (1,)}, "Stable Diffusion 3"),
        ({"double_blocks.0.img_attn.qkv.weight": (1,)}, "FLUX"),
        ({CONV_IN: (4, 9, 3, 3)}, "an inpainting model"),
        ({CONV_IN: (4, 8, 3, 3)}, "InstructPix2Pix"),
        ({"v_pred": (1,)}, "a v-prediction model"),
        ({"lora_unet_down_blocks_0_x.lora_down.weight": (1,)}, "a LoRA"),
        ({"control_model.input_blocks.0.0.weight": (1,)}, "a ControlNet"),
    ],
)
def test_relatives_are_refused_by_name(
    tmp_path: Path, changes: dict[str, tuple[int, ...]], what: str
) -> None:
    path = header_file(tmp_path / "other.safetensors", {**SD1_MARKS, **changes})
    with pytest.raises(ValueError, match=what):
        load_base(str(path))
    assert what in describe_base(str(path)).problem


def test_v_prediction_is_recognised_by_header_and_by_the_yaml_beside(tmp_path: Path) -> None:
    path = header_file(tmp_path / "v.safetensors", SD1_MARKS, **{"modelspec.prediction_type": "v"})
    with pytest.raises(ValueError, match="v-prediction"):
        check_checkpoint(path)
    path = header_file(tmp_path / "s.safetensors", SD1_MARKS, **{"modelspec.prediction_type": "sample"})
    with pytest.raises(ValueError, match="predicts the clean sample"):
        check_checkpoint(path)
    path = header_file(tmp_path / "w.safetensors", SD1_MARKS)
    check_checkpoint(path)
    path.with_suffix(".yaml").write_text("model:\n  params:\n    parameterization: 'v'\n")
    with pytest.raises(ValueError, match="v-prediction"):
        check_checkpoint(path)


def test_incomplete_checkpoints_are_refused_by_the_part_they_lack(tmp_path: Path) -> None:
    for lost, part in (
        ("first_stage_model.x", "VAE"),
        ("cond_stage_model.transformer.text_model.x", "text encoder"),
    ):
        shapes = {name: shape for name, shape in SD1_MARKS.items() if name != lost}
        with pytest.raises(ValueError, match=f"has no {part}"):
            check_checkpoint(header_file(tmp_path / "part.safetensors", shapes))
    for shapes, part in (
        ({"x": (1,)}, "Stable Diffusion UNet"),
        ({**SD1_MARKS, CONV_IN: (4,)}, "Stable Diffusion UNet"),
        ({name: shape for name, shape in SD1_MARKS.items() if name != CROSS_KEY}, "cross-attention"),
        ({**SD1_MARKS, CROSS_KEY: (768,)}, "cross-attention"),
    ):
        path = header_file(tmp_path / "part.safetensors", shapes)
        with pytest.raises(ValueError, match=f"part.safetensors has no {part} in it"):
            load_base(str(path))
        assert f"has no {part}" in describe_base(str(path)).problem


def test_pickles_are_refused_naming_the_danger(tmp_path: Path) -> None:
    for name in ("model.ckpt", "model.pt", "model.bin"):
        with pytest.raises(ValueError, match="can run any program"):
            load_base(str(tmp_path / name))
    hidden = tmp_path / "hidden.safetensors"
    hidden.write_bytes(pickle.dumps({"a": 1}) + bytes(100))
    with pytest.raises(ValueError, match="can run any program"):
        load_base(str(hidden))


@pytest.mark.parametrize(
    "content", [b"", b"short", bytes(64), b"\xff" * 64, (8).to_bytes(8, "little") + b"not json", b"{}" * 40]
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="download it again"):
        read_header(path)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[]",
        b'{"a": 1}',
        b'{"a": {"shape": [1], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [[1]], "data_offsets": [0, 0]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", 0]}}',
        b'{"__metadata__": []}',
        b'{"__metadata__": {"modelspec.prediction_type": 1}}',
    ],
    ids=lambda header: header[:40].decode(),
)
def test_headers_of_another_make_are_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match="unreadable header"):
        read_header(path)


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = header_file(tmp_path / "cut.safetensors", SD1_MARKS)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="cut short"):
        load_base(str(path))


def folder_with(
    tmp_path: Path, *, pipeline: str = "StableDiffusionPipeline", unet: dict, scheduler: dict
) -> Path:
    """Write a diffusers folder that contains only configs."""
    for name, content in (
        ("model_index.json", {"_class_name": pipeline}),
        ("unet/config.json", {"in_channels": 4, "cross_attention_dim": 768, **unet}),
        ("scheduler/scheduler_config.json", scheduler),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("pipeline", "unet", "scheduler", "what"),
    [
        ("StableDiffusionXLPipeline", {}, {}, "Stable Diffusion XL"),
        ("StableDiffusion3Pipeline", {}, {}, "Stable Diffusion 3"),
        ("FluxPipeline", {}, {}, "FLUX"),
        ("StableDiffusionInpaintPipeline", {}, {}, "an inpainting model"),
        ("StableDiffusionPipeline", {"in_channels": 9}, {}, "an inpainting model"),
        ("StableDiffusionPipeline", {"cross_attention_dim": 1024}, {}, "Stable Diffusion 2"),
        ("StableDiffusionPipeline", {}, {"prediction_type": "v_prediction"}, "a v-prediction model"),
        ("StableDiffusionPipeline", {}, {"prediction_type": "sample"}, "predicts the clean sample"),
        ("StableDiffusionPipeline", {}, {"prediction_type": "x"}, "a model of prediction type 'x'"),
    ],
)
def test_folders_of_relatives_are_refused_by_name(
    tmp_path: Path, pipeline: str, unet: dict, scheduler: dict, what: str
) -> None:
    folder = folder_with(tmp_path, pipeline=pipeline, unet=unet, scheduler=scheduler)
    with pytest.raises(ValueError, match=what):
        load_base(str(folder))


def test_a_folder_of_pickles_is_refused(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, unet={}, scheduler={})
    with pytest.raises(ValueError, match="not complete"):
        load_base(str(folder))
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ValueError, match="can run any program"):
        load_base(str(folder))


# Names and the Hub


def test_names_are_told_apart(tmp_path: Path) -> None:
    assert locate(EMBEDDED).path == ASSETS / "base"
    assert locate(str(tmp_path)).kind == "folder"
    place = locate("owner/model-1.5@abc123")
    assert (place.kind, place.name, place.revision) == ("hub", "owner/model-1.5", "abc123")
    for nonsense in (
        "nowhere",
        "../no-such-folder",
        "a/b/c",
        "owner/model.safetensors",
        "https://example.org/a",
    ):
        with pytest.raises(ValueError, match="There is no base"):
            locate(nonsense)


def test_the_hub_is_not_asked_unless_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("ATELIER_HUB", raising=False)
    with pytest.raises(ValueError, match="downloads are off"):
        load_base("owner/model")
    facts = describe_base("owner/model")
    assert not facts.present
    assert "download of about" in facts.needs


def test_only_safetensors_are_chosen_from_the_hub() -> None:
    present = [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "safety_checker/model.safetensors",
        "tokenizer/merges.txt",
    ]
    chosen = choose_files(present, name="owner/model")
    assert set(present) - set(chosen) == {
        "unet/diffusion_pytorch_model.bin",
        "safety_checker/model.safetensors",
    }
    with pytest.raises(ValueError, match="no pickled weights"):
        choose_files([file for file in present if "vae" not in file], name="owner/model")


def test_the_embedded_base_needs_nothing() -> None:
    facts = describe_base(EMBEDDED)
    assert facts.present
    assert (facts.family, facts.size_px, facts.problem) == ("embedded", 128, "")
    assert 10 < facts.disk_mb < 32
