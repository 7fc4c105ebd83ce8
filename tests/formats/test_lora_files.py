"""LoRA files: written files are checked with the programs that read them, read files against a dense reference."""

import json
import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from pipelines.adapters.core import save_adapter
from pipelines.config import ASSETS
from pipelines.formats.exchange import read_adapter
from pipelines.formats.lora import (
    LoRAState,
    as_lora,
    read_lora,
    write_diffusers,
    write_kohya,
    write_peft,
)
from pipelines.unet_blocks import unet_modules
from tests.tiny import visible_lora
from tests.tolerances import assert_close

if TYPE_CHECKING:
    from pipelines.models.base import Base

CONV_PARENTS = ("ResnetBlock2D", "Downsample2D", "Upsample2D")
SD15_UNET = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD15_TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    """The embedded base, loaded with plain diffusers."""
    torch.set_num_threads(1)
    loaded = StableDiffusionPipeline.from_pretrained(ASSETS / "base", torch_dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@pytest.fixture
def exact(pipe: StableDiffusionPipeline) -> Iterator[StableDiffusionPipeline]:
    """The same pipeline in float64."""
    yield pipe.to(torch.float64)
    pipe.to(torch.float32)


def children_of(model: nn.Module, parents: tuple[str, ...]) -> list[str]:
    """Return the Linear and Conv2d modules inside modules of these classes: kohya's rule for the layers of a LoRA."""
    found = {
        f"{at}.{name}"
        for at, parent in model.named_modules()
        if type(parent).__name__ in parents
        for name, module in parent.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    return sorted(found)


def unet_targets(unet: nn.Module, *, conv: bool) -> list[str]:
    return children_of(unet, ("Transformer2DModel", *(CONV_PARENTS if conv else ())))


def text_targets(text_encoder: nn.Module) -> list[str]:
    return children_of(text_encoder, ("CLIPAttention", "CLIPSdpaAttention", "CLIPMLP"))


def random_lora(
    modules: dict[str, nn.Module], *, ranks: tuple[int, ...] = (2,), size: float = 0.3
) -> LoRAState:
    """Return random factors for modules {"unet.<name>": Linear or Conv2d}, cycling through the ranks."""
    generator = torch.Generator().manual_seed(7)
    tensors: dict[str, Tensor] = {}
    for index, (name, module) in enumerate(sorted(modules.items())):
        rank, weight = ranks[index % len(ranks)], module.weight
        down = torch.randn((rank, *weight.shape[1:]), generator=generator) / weight[0].numel() ** 0.5
        up = torch.randn((weight.shape[0], rank, *([1] * (weight.dim() - 2))), generator=generator)
        tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up * size / rank**0.5}
    return LoRAState(tensors=tensors)


def some_lora(pipe: StableDiffusionPipeline, *, text: bool, ranks: tuple[int, ...] = (2,)) -> LoRAState:
    names = {f"unet.{name}": pipe.unet.get_submodule(name) for name in unet_targets(pipe.unet, conv=True)}
    if text:
        names |= {
            f"text_encoder.{name}": pipe.text_encoder.get_submodule(name)
            for name in text_targets(pipe.text_encoder)
        }
    return random_lora(names, ranks=ranks)


@contextmanager
def added(pipe: StableDiffusionPipeline, state: LoRAState) -> Iterator[None]:
    """Reference for a LoRA: add its dense changes to the weights."""
    parts = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    before = {}
    for module in state.modules:
        prefix, _, name = module.partition(".")
        weight = parts[prefix].get_submodule(name).weight
        before[module] = weight, weight.detach().clone()
        weight.data += state.change(module)
    try:
        yield
    finally:
        for weight, original in before.values():
            weight.data.copy_(original)


def picture(pipe: StableDiffusionPipeline) -> Tensor:
    """Return latents after two steps with guidance, (1, 4, h, w)."""
    generator = torch.Generator().manual_seed(3)
    return pipe(
        "a photo of a person",
        num_inference_steps=2,
        height=32,
        width=32,
        generator=generator,
        output_type="latent",
    ).images


def assert_same(ours: LoRAState, theirs: LoRAState, dtype: torch.dtype = torch.float32) -> None:
    assert ours.modules == theirs.modules
    for module in ours.modules:
        assert_close(ours.change(module), theirs.change(module), dtype=dtype)


# ---- diffusers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [(2,), (1, 4, 2)])
@pytest.mark.parametrize("write", [write_diffusers, write_kohya])
def test_diffusers_draws_the_same_picture(exact, tmp_path: Path, write, ranks: tuple[int, ...]) -> None:
    """In float64, a different order of summation stays within tolerance, but a different interpretation does not."""
    pipe = exact
    state = some_lora(pipe, text=True, ranks=ranks)
    path = write(tmp_path / "lora.safetensors", state, dtype=torch.float32)
    plain = picture(pipe)
    with added(pipe, state):
        ours = picture(pipe)
    pipe.load_lora_weights(tmp_path, weight_name=path.name)
    theirs = picture(pipe)
    pipe.unload_lora_weights()
    assert_close(ours, theirs, dtype=torch.float32)
    assert (ours - plain).abs().max() > 0.1
    assert_same(state, read_lora(path))


def test_diffusers_needs_no_metadata(pipe, tmp_path: Path) -> None:
    state = some_lora(pipe, text=False)
    tensors = load_file(write_diffusers(tmp_path / "lora.safetensors", state))
    with added(pipe, state):
        ours = picture(pipe)
    pipe.load_lora_weights(tensors)
    theirs = picture(pipe)
    pipe.unload_lora_weights()
    assert_close(ours, theirs)


def test_diffusers_keys_are_of_one_generation(pipe, tmp_path: Path) -> None:
    tensors = load_file(write_diffusers(tmp_path / "lora.safetensors", some_lora(pipe, text=True)))
    assert all(key.endswith((".lora_A.weight", ".lora_B.weight")) for key in tensors)
    texts = [key for key in tensors if key.startswith("text_encoder.")]
    assert texts
    assert all(key.startswith("text_encoder.text_model.encoder.layers.") for key in texts)


ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
TEXT = "text_encoder.text_model.encoder.layers.0.self_attn"
GENERATIONS = {
    "procs": (f"{ATTENTION}.processor.to_q_lora", f"{ATTENTION}.processor.to_out_lora", f"{TEXT}.to_q_lora"),
    "first": (
        f"unet.{ATTENTION}.processor.to_q_lora",
        f"unet.{ATTENTION}.processor.to_out_lora",
        f"{TEXT}.to_q_lora",
    ),
    "second": (
        f"unet.{ATTENTION}.to_q.lora",
        f"unet.{ATTENTION}.to_out.0.lora",
        f"{TEXT}.q_proj.lora_linear_layer",
    ),
    "third": (f"unet.{ATTENTION}.to_q.lora_A", f"unet.{ATTENTION}.to_out.0.lora_A", f"{TEXT}.q_proj.lora_A"),
    "named": (
        f"unet.{ATTENTION}.to_q.lora_A.default",
        f"unet.{ATTENTION}.to_out.0.lora_A.default",
        f"{TEXT.replace('text_model.', '')}.q_proj.lora_A.default",
    ),
}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_generation_of_diffusers_names_is_read(tmp_path: Path, generation: str) -> None:
    tensors = {}
    for stem in GENERATIONS[generation]:
        newest = "lora_A" in stem
        tensors[f"{stem}.weight" if newest else f"{stem}.down.weight"] = torch.randn(2, 8)
        tensors[f"{stem.replace('lora_A', 'lora_B')}.weight" if newest else f"{stem}.up.weight"] = (
            torch.randn(6, 2)
        )
    save_file(tensors, tmp_path / "lora.safetensors")
    assert read_lora(tmp_path / "lora.safetensors").modules == [
        "text_encoder.encoder.layers.0.self_attn.q_proj",
        f"unet.{ATTENTION}.to_out.0",
        f"unet.{ATTENTION}.to_q",
    ]


def test_stated_alpha_is_folded(tmp_path: Path) -> None:
    """A LoRA of rank 1 with alpha 27 is 27 times too weak if a reader ignores the header."""
    stem = f"unet.{ATTENTION}"
    tensors = {
        f"{stem}.{to}.lora_{half}.weight": torch.ones(1, 1) for to in ("to_q", "to_v") for half in "AB"
    }
    stated = {"unet.r": 1, "unet.lora_alpha": 27, "unet.alpha_pattern": {r".*attn1\.to_v": 3}}
    save_file(tensors, tmp_path / "w.safetensors", metadata={"lora_adapter_metadata": json.dumps(stated)})
    state = read_lora(tmp_path / "w.safetensors")
    assert state.change(f"{stem}.to_q").item() == 27
    assert state.change(f"{stem}.to_v").item() == 3


def test_endless_patterns_are_refused(tmp_path: Path) -> None:
    tensors = {f"unet.{ATTENTION}.to_q.lora_{half}.weight": torch.ones(1, 1) for half in "AB"}
    stated = {"unet.alpha_pattern": {"(a+)+b": 3}}
    save_file(tensors, tmp_path / "w.safetensors", metadata={"lora_adapter_metadata": json.dumps(stated)})
    with pytest.raises(ValueError, match="too complex"):
        read_lora(tmp_path / "w.safetensors")


# ---- PEFT -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [(2,), (1, 4, 2)])
def test_peft_model_gives_the_same_output(pipe, tmp_path: Path, ranks: tuple[int, ...]) -> None:
    state = some_lora(pipe, text=False, ranks=ranks)
    write_peft(tmp_path / "adapter", state)
    unet = UNet2DConditionModel.from_pretrained(ASSETS / "base" / "unet").eval()
    inputs = torch.randn(1, 4, 4, 4), torch.tensor([500]), torch.randn(1, 5, 128)
    with torch.no_grad():
        with added(pipe, state):
            ours = pipe.unet(*inputs).sample
        theirs = PeftModel.from_pretrained(unet, tmp_path / "adapter")(*inputs).sample
    assert_close(ours, theirs)
    assert_same(state, read_lora(tmp_path / "adapter"))


def test_peft_writes_each_part_into_its_own_folder(pipe, tmp_path: Path) -> None:
    state = some_lora(pipe, text=True, ranks=(1, 2))
    write_peft(tmp_path / "adapter", state)
    text_encoder = CLIPTextModel.from_pretrained(ASSETS / "base" / "text_encoder").eval()
    ids = torch.arange(8)[None]
    with torch.no_grad():
        with added(pipe, state):
            ours = pipe.text_encoder(ids)[0]
        text_encoder.load_adapter(str(tmp_path / "adapter" / "text_encoder"))
        theirs = text_encoder(ids)[0]
    assert_close(ours, theirs)
    assert_same(state, read_lora(tmp_path / "adapter"))


def test_peft_folder_is_needed_whole(pipe, tmp_path: Path) -> None:
    write_peft(tmp_path, some_lora(pipe, text=False))
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(ValueError, match=r"choose the whole folder"):
        read_lora(tmp_path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"adapter_config.json, with .* is missing; choose the whole folder"):
        read_lora(tmp_path)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 2.0), (True, 4.0)])
def test_peft_alpha_and_rank_stabilised_alpha(tmp_path: Path, rslora: bool, scale: float) -> None:
    tensors = {f"base_model.model.{ATTENTION}.to_q.lora_A.weight": torch.ones(4, 1)}
    tensors[f"base_model.model.{ATTENTION}.to_q.lora_B.weight"] = torch.ones(1, 4)
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": rslora}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert read_lora(tmp_path).change(f"unet.{ATTENTION}.to_q").item() == 4 * scale


# ---- kohya ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sd15() -> SimpleNamespace:
    """The SD 1.5 configuration on the meta device (no memory is allocated)."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD15_UNET)
        text_encoder = CLIPTextModel(CLIPTextConfig(**SD15_TEXT))
    return SimpleNamespace(unet=unet, text_encoder=text_encoder)


@pytest.mark.parametrize(("conv", "count", "floats"), [(False, 192, 423_936), (True, 278, 1_050_816)])
def test_kohya_names_and_shapes_for_sd15(sd15, tmp_path: Path, conv: bool, count: int, floats: int) -> None:
    """Derive the names from the live module tree, as kohya does. The counts are those of kohya's own files."""
    unet = {f"unet.{name}": sd15.unet.get_submodule(name) for name in unet_targets(sd15.unet, conv=conv)}
    texts = text_targets(sd15.text_encoder)
    text = {f"text_encoder.{name}": sd15.text_encoder.get_submodule(name) for name in texts}
    assert (len(unet), len(text)) == (count, 72)
    tensors = load_file(write_kohya(tmp_path / "k.safetensors", random_lora({**unet, **text}, ranks=(1,))))
    expected = {}
    for name, module in {**unet, **text}.items():
        prefix, _, path = name.partition(".")
        flat = ("lora_unet_" if prefix == "unet" else "lora_te_text_model_") + path.replace(".", "_")
        expected[f"{flat}.lora_down.weight"] = (1, *module.weight.shape[1:])
        expected[f"{flat}.lora_up.weight"] = (module.weight.shape[0], 1, *([1] * (module.weight.dim() - 2)))
        expected[f"{flat}.alpha"] = ()
    assert {key: tuple(tensor.shape) for key, tensor in tensors.items()} == expected
    factors = {key: tensor.numel() for key, tensor in tensors.items() if not key.endswith(".alpha")}
    assert sum(n for key, n in factors.items() if key.startswith("lora_unet_")) == floats
    assert sum(n for key, n in factors.items() if key.startswith("lora_te_")) == 165_888
    assert len(read_lora(tmp_path / "k.safetensors").modules) == count + 72


def test_kohya_names_are_the_ones_other_programs_know(pipe, tmp_path: Path) -> None:
    tensors = load_file(write_kohya(tmp_path / "k.safetensors", some_lora(pipe, text=True)))
    known = (
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0.lora_down.weight",
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj.lora_up.weight",
        "lora_unet_down_blocks_1_downsamplers_0_conv.alpha",
        "lora_unet_up_blocks_0_upsamplers_0_conv.lora_down.weight",
        "lora_unet_up_blocks_3_resnets_2_time_emb_proj.lora_down.weight",
        "lora_te_text_model_encoder_layers_0_self_attn_out_proj.lora_up.weight",
        "lora_te_text_model_encoder_layers_2_mlp_fc2.alpha",
    )
    assert set(known) <= tensors.keys()


def test_module_names_are_those_of_the_real_unet(sd15) -> None:
    live = set(unet_targets(sd15.unet, conv=True))
    assert live <= set(unet_modules())
    assert (
        len(set(unet_modules())) == len(unet_modules()) == len({n.replace(".", "_") for n in unet_modules()})
    )
    extra = {name for name in unet_modules() if name not in live and "conv_shortcut" not in name}
    assert extra == {"conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"}


LAYERS = {
    "linear": ("time_embedding.linear_1", nn.Linear(6, 5)),
    "conv1x1": ("mid_block.attentions.0.proj_in", nn.Conv2d(6, 5, 1)),
    "conv3x3": ("mid_block.resnets.0.conv1", nn.Conv2d(6, 5, 3, padding=1)),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("alpha", [None, 1.0, 8.0])
@pytest.mark.parametrize("layer", LAYERS)
def test_kohya_change_equals_the_two_layers_of_its_authors(tmp_path: Path, layer: str, alpha, dtype) -> None:
    """Dense reference W + alpha/r * up @ down, and up(down(x)) as kohya's trainer computes it."""
    name, module = LAYERS[layer]
    generator = torch.Generator().manual_seed(1)
    down = torch.randn(4, *module.weight.shape[1:], generator=generator).to(dtype)
    up = torch.randn(5, 4, *([1] * (module.weight.dim() - 2)), generator=generator).to(dtype)
    flat = f"lora_unet_{name.replace('.', '_')}"
    tensors = {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up}
    if alpha is not None:
        tensors[f"{flat}.alpha"] = torch.tensor(alpha).to(dtype)
    save_file(tensors, tmp_path / "k.safetensors")
    change = read_lora(tmp_path / "k.safetensors").change(f"unet.{name}")
    scale = 1.0 if alpha is None else alpha / 4
    dense = scale * torch.einsum("or...,ri...->oi...", up.float(), down.float())
    assert_close(change, dense)
    if layer == "linear":
        x = torch.randn(3, 6, generator=generator)
        trained = x @ down.float().T @ up.float().T
        live = x @ change.T
    else:
        x = torch.randn(1, 6, 5, 5, generator=generator)
        trained = nn.functional.conv2d(
            nn.functional.conv2d(x, down.float(), padding=module.padding), up.float()
        )
        live = nn.functional.conv2d(x, change, padding=module.padding)
    assert_close(live, scale * trained)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_kohya_round_trip(pipe, tmp_path: Path, dtype: torch.dtype) -> None:
    state = some_lora(pipe, text=True, ranks=(1, 4, 2))
    back = read_lora(write_kohya(tmp_path / "k.safetensors", state, dtype=dtype))
    assert back.ranks == state.ranks
    assert_same(state, back, dtype)


def test_kohya_ranks_and_alphas_may_differ(tmp_path: Path) -> None:
    tensors = {}
    for at, rank, alpha in ((0, 2, 1.0), (1, 4, 16.0)):
        flat = f"lora_unet_down_blocks_{at}_attentions_0_transformer_blocks_0_attn2_to_k"
        tensors |= {
            f"{flat}.lora_down.weight": torch.ones(rank, 3),
            f"{flat}.lora_up.weight": torch.ones(2, rank),
        }
        tensors[f"{flat}.alpha"] = torch.tensor(alpha)
    save_file(tensors, tmp_path / "k.safetensors")
    state = read_lora(tmp_path / "k.safetensors")
    assert list(state.ranks.values()) == [2, 4]
    assert [state.change(module)[0, 0].item() for module in state.modules] == [1.0, 16.0]


# ---- refused files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".ckpt", ".pth"])
def test_pickles_are_refused_before_they_are_opened(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"lora{suffix}"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"can run any program"):
        read_lora(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_renamed_pickles_are_refused(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "lora.safetensors"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"can run any program"):
        read_lora(path)


def header_file(path: Path, header: bytes, *, length: int | None = None, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


@pytest.mark.parametrize(
    "header",
    [b'{"a": 1}', b"{", b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'],
)
def test_damaged_headers_are_refused(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(ValueError, match="download it again"):
        read_lora(header_file(tmp_path / "lora.safetensors", header))


def test_oversize_headers_are_refused(tmp_path: Path) -> None:
    path = header_file(tmp_path / "lora.safetensors", b"{}", length=2**62)
    with pytest.raises(ValueError, match="download it again"):
        read_lora(path)


def test_header_of_640_bytes_is_no_pickle(tmp_path: Path) -> None:
    """A header length of 640 gives the first bytes 80 02, which are also the start of a protocol 2 pickle."""
    keys = [f"unet.{ATTENTION}.to_q.lora_{half}.weight" for half in "AB"]
    entries = {
        key: {"dtype": "F32", "shape": [1, 1], "data_offsets": [4 * i, 4 * i + 4]}
        for i, key in enumerate(keys)
    }
    header = json.dumps(entries).encode().ljust(640)
    header_file(tmp_path / "lora.safetensors", header, data=struct.pack("<2f", 2.0, 3.0))
    assert read_lora(tmp_path / "lora.safetensors").change(f"unet.{ATTENTION}.to_q").item() == 6.0


def test_too_many_tensors_are_refused(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({f"{index}": entry for index in range(9000)}).encode()
    with pytest.raises(ValueError, match="more than any LoRA"):
        read_lora(header_file(tmp_path / "lora.safetensors", header))


def attention_pair(**changed: Tensor) -> dict[str, Tensor]:
    pair = {"A": torch.ones(2, 3), "B": torch.ones(4, 2)} | changed
    return {f"unet.{ATTENTION}.to_q.lora_{half}.weight": tensor for half, tensor in pair.items()}


FLAT = "lora_unet_mid_block_resnets_0_conv1"
REFUSED = {
    "not a number": (attention_pair(A=torch.tensor([[float("nan")] * 3] * 2)), "not finite"),
    "infinite": (attention_pair(B=torch.full((4, 2), torch.inf)), "not finite"),
    "half": ({f"unet.{ATTENTION}.to_q.lora_A.weight": torch.ones(2, 3)}, "only one of the two factors"),
    "ranks differ": (attention_pair(B=torch.ones(4, 3)), "do not fit together"),
    "rank": (attention_pair(A=torch.ones(2000, 1), B=torch.ones(1, 2000)), "rank 2000"),
    "integers": (attention_pair(A=torch.ones(2, 3, dtype=torch.int32)), "'I32'"),
    "unknown": (attention_pair() | {"unet.attic.lora_A.weight": torch.ones(1)}, r"1 of its keys.*unet\.attic"),
    "empty": ({}, "it is empty"),
    "half a loha": ({f"{FLAT}.hada_w1_a": torch.ones(1)}, "only one of the two factors"),
    "lokr": ({f"{FLAT}.lokr_w1": torch.ones(1)}, "LoKr"),
    "dora": (attention_pair() | {f"{FLAT}.dora_scale": torch.ones(1)}, "DoRA"),
    "full": ({f"{FLAT}.diff": torch.ones(1)}, "full weight differences"),
    "sdxl": ({"lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha": torch.tensor(1.0)}, "SDXL"),
    "flux": ({"transformer.single_blocks.0.lora_A.weight": torch.ones(1)}, "transformer model"),
    "checkpoint": ({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(1)}, "full Stable Diffusion"),
    "alpha": ({f"{FLAT}.alpha": torch.tensor([1.0, 2.0])} | {
        f"{FLAT}.lora_{half}.weight": torch.ones(1, 1, 1, 1) for half in ("down", "up")
    }, "not one finite number"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_a_sentence(tmp_path: Path, case: str) -> None:
    tensors, sentence = REFUSED[case]
    save_file(tensors, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=sentence):
        read_lora(tmp_path / "lora.safetensors")


# ---- Atelier's own adapter ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_diffusers, write_kohya, write_peft])
def test_what_leaves_comes_back_as_an_adapter(base: "Base", tmp_path: Path, write) -> None:
    adapter = visible_lora(base)
    path = tmp_path / "lora.safetensors"
    write(path, adapter, dtype=torch.float32)
    returned = read_adapter(path, base).adapter
    expected = dict(adapter.changes(base))
    found = dict(returned.changes(base))
    assert expected.keys() == found.keys()
    for name, change in expected.items():
        assert_close(found[name], change)


def test_mixed_ranks_become_ranks_of_the_adapter(base: "Base", pipe, tmp_path: Path) -> None:
    state = some_lora(pipe, text=True, ranks=(1, 4, 2))
    adapter = read_adapter(write_kohya(tmp_path / "k.safetensors", state, dtype=torch.float32), base).adapter
    for name, change in adapter.changes(base):
        assert_close(change, state.change(name.removesuffix(".weight")))


def test_our_own_file_is_read_like_any_other(base: "Base", tmp_path: Path) -> None:
    adapter = visible_lora(base)
    save_adapter(tmp_path / "adapter.safetensors", adapter, extra={"method": "dreambooth"})
    state = read_lora(tmp_path / "adapter.safetensors")
    assert state.source == "atelier"
    assert_same(as_lora(adapter), state)


def test_a_lora_for_another_base_is_refused(base: "Base", tmp_path: Path) -> None:
    save_file(attention_pair(), tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="made for another base"):
        read_adapter(tmp_path / "lora.safetensors", base)
    deeper = {f"text_encoder.encoder.layers.11.mlp.fc1.lora_{half}.weight": torch.ones(1, 1) for half in "AB"}
    save_file(deeper, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="does not have"):
        read_adapter(tmp_path / "lora.safetensors", base)


def test_what_is_no_lora_is_not_written_as_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'full' is not a LoRA"):
        as_lora(SimpleNamespace(kind="full"))


def test_too_large_for_half_precision_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="export in float32"):
        write_kohya(tmp_path / "k.safetensors", LoRAState(tensors=attention_pair(A=torch.full((2, 3), 1e6))))
    assert list(tmp_path.glob("*.safetensors")) == []
