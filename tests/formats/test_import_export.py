"""An imported LoRA file becomes a finished run; an exported file describes itself and can be imported again."""

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.utils import convert_state_dict_to_kohya
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipelines.adapters.core import save_adapter
from pipelines.adapters.lora import LoRA
from pipelines.config import DreamBoothConfig, SampleConfig
from pipelines.formats import lora as formats
from pipelines.jobs.model_cache import ModelCache
from pipelines.models.base import Base
from pipelines.studio import Studio
from tests.tiny import visible_lora
from tests.tolerances import assert_close

PATIENCE_S = 120
PICTURE = SampleConfig(prompt="a photo of a {identifier} {class_noun}", steps=2, seed=5)


@pytest.fixture(scope="module")
def model_cache(base: Base) -> ModelCache:
    """The base that all tests share, so that it is loaded once."""
    shop = ModelCache()
    shop._bases["embedded"] = base
    return shop


@pytest.fixture
def studio(tmp_path: Path, model_cache: ModelCache) -> Iterator[Studio]:
    studio = Studio(tmp_path / "data", model_cache=model_cache)
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def lora(base: Base) -> LoRA:
    return visible_lora(base)


def ours(path: Path, adapter: LoRA) -> Path:
    save_adapter(path, adapter, extra={"config": {"identifier": "zwx", "class_noun": "dog"}})
    return path


def diffusers(path: Path, adapter: LoRA) -> Path:
    return formats.write_diffusers(path, adapter, metadata={"modelspec.trigger_phrase": "zwx dog"})


def kohya(path: Path, adapter: LoRA) -> Path:
    metadata = {"modelspec.trigger_phrase": "zwx dog", "modelspec.title": "Rex"}
    return formats.write_kohya(path, adapter, dtype=torch.float32, metadata=metadata)


def peft_folder(path: Path, adapter: LoRA) -> Path:
    return formats.write_peft(path.with_suffix(""), adapter, metadata={"modelspec.trigger_phrase": "zwx dog"})


def peft_zip(path: Path, adapter: LoRA) -> Path:
    """A zip file with an enclosing folder and the extra files that macOS adds."""
    folder = peft_folder(path, adapter)
    target = path.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for file in folder.rglob("*.*"):
            archive.write(file, f"my lora/{file.relative_to(folder)}")
        archive.writestr("__MACOSX/my lora/._adapter_config.json", b"clutter")
    return target


WRITERS = [ours, diffusers, kohya, peft_folder, peft_zip]


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_becomes_a_run_like_any_other(
    studio: Studio, base: Base, lora: LoRA, tmp_path: Path, write: Callable[[Path, LoRA], Path]
) -> None:
    run_id = studio.import_export.import_lora(write(tmp_path / "rex.safetensors", lora))
    (listed,) = studio.library.list_runs()
    assert (listed.id, listed.state, listed.method) == (run_id, "done", "import")
    assert listed.name == ("Rex" if write is kohya else "rex")
    status = studio.training.status(run_id)
    assert (status["step"], status["total"], status["error"]) == (0, 0, "")
    adapter = studio.resources.model_cache().adapter(
        studio.resources.store.get(run_id).file("adapter.safetensors"), base
    )
    expected = dict(lora.changes(base))
    found = dict(adapter.changes(base))
    assert expected.keys() == found.keys()
    for name, change in expected.items():
        assert_close(found[name], change)
    assert studio.inspection.views(run_id)
    before, after = studio.generation.generate(PICTURE, run_id=run_id, before_after=True)
    with Image.open(before) as one, Image.open(after) as two:
        assert one.tobytes() != two.tobytes()
        assert json.loads(two.info["atelier"])["prompt"] == "a photo of a zwx dog"
    assert studio.import_export.export(run_id, "kohya").is_file()
    with pytest.raises(ValueError, match="no checkpoint"):
        studio.training.train_more(run_id, 5)
    with pytest.raises(ValueError, match="finished"):
        studio.training.resume(run_id)
    studio.training.discard(run_id)
    assert studio.library.list_runs() == []


def test_a_name_of_ones_own_and_no_trigger_words(studio: Studio, lora: LoRA, tmp_path: Path) -> None:
    path = formats.write_kohya(tmp_path / "x.safetensors", lora)
    run_id = studio.import_export.import_lora(path, name="  My\x00 friend's dog ")
    run = studio.resources.store.get(run_id)
    assert run.name == "My friend's dog"
    assert run.config == {"identifier": "", "class_noun": "", "source": "kohya", "file": "x.safetensors"}
    assert studio.generation.generate(replace(PICTURE, prompt="a dog"), run_id=run_id)


def odd(make: Callable[[Path, LoRA], Path | None], sentence: str) -> object:
    return pytest.param(make, sentence, id=make.__name__)


def pickle_file(folder: Path, lora: LoRA) -> Path:
    path = folder / "lora.bin"
    path.write_bytes(b"\x80\x02}")
    return path


def text_file(folder: Path, lora: LoRA) -> Path:
    path = folder / "lora.safetensors"
    path.write_text("hello" * 20)
    return path


def absent_file(folder: Path, lora: LoRA) -> Path:
    return folder / "absent.safetensors"


def empty_zip(folder: Path, lora: LoRA) -> Path:
    path = folder / "lora.zip"
    zipfile.ZipFile(path, "w").close()
    return path


def damaged_zip(folder: Path, lora: LoRA) -> Path:
    path = peft_zip(folder / "lora.safetensors", lora)
    content = bytearray(path.read_bytes())
    content[2000:4000] = bytes(2000)
    path.write_bytes(content)
    return path


def zip_of_two(folder: Path, lora: LoRA) -> Path:
    path = peft_zip(folder / "lora.safetensors", lora)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("another/unet/adapter_config.json", "{}")
    return path


def zip_that_climbs(folder: Path, lora: LoRA) -> Path:
    path = folder / "...zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../../unet/adapter_config.json", "{}")
    return path


def swollen_zip(folder: Path, lora: LoRA) -> Path:
    path = folder / "lora.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in (".", "unet", "text_encoder"):
            archive.writestr(f"{part}/adapter_model.safetensors", b"")
        for member in archive.filelist:
            member.file_size = 2**30
    return path


def bomb(folder: Path, lora: LoRA) -> Path:
    """A small archive that unpacks to a hundred times its size."""
    path = folder / "lora.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("adapter_model.safetensors", bytes(100 * 2**20))
    return path


def overlapping_zip(folder: Path, lora: LoRA) -> Path:
    """Two directory entries that share the same bytes."""
    path = folder / "lora.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("unet/adapter_model.safetensors", bytes(2000))
        archive.writestr("text_encoder/adapter_model.safetensors", bytes(2000))
        archive.filelist[1].header_offset = archive.filelist[0].header_offset
    return path


def odd_compression(folder: Path, lora: LoRA) -> Path:
    """Invalid data marked as an LZMA stream."""
    path = folder / "lora.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("adapter_model.safetensors", bytes(range(256)) * 8)
    content = bytearray(path.read_bytes())
    content[70:100] = bytes(30)
    path.write_bytes(content)
    return path


def odd_deflation(folder: Path, lora: LoRA) -> Path:
    path = folder / "lora.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("adapter_model.safetensors", bytes(range(256)) * 8)
    content = bytearray(path.read_bytes())
    content[60:90] = bytes([255]) * 30
    path.write_bytes(content)
    return path


def odd_names(folder: Path, lora: LoRA) -> Path:
    """An entry name that is flagged as UTF-8 but is not valid UTF-8."""
    path = folder / "lora.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("\u00e9dapter_model.safetensors", b"x")
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xff\xfe"))
    return path


def full_weights(folder: Path, lora: LoRA) -> Path:
    path = folder / "full.safetensors"
    save_file({"unet.conv_in.bias": torch.zeros(4)}, path, metadata={"kind": "full", "base_hash": "00"})
    return path


def other_base(folder: Path, lora: LoRA) -> Path:
    path = folder / "other.safetensors"
    module = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    save_file(
        {f"{module}.lora_A.weight": torch.ones(1, 1280), f"{module}.lora_B.weight": torch.ones(1280, 1)}, path
    )
    return path


def odd_alpha(folder: Path, lora: LoRA) -> Path:
    path = ours(folder / "odd.safetensors", lora)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() | {"alpha": "much"}
    save_file(load_file(path), path, metadata=metadata)
    return path


def listed_config(folder: Path, lora: LoRA) -> Path:
    path = peft_folder(folder / "lora.safetensors", lora)
    (path / "unet" / "adapter_config.json").write_text("[]")
    return path


def odd_pattern(folder: Path, lora: LoRA) -> Path:
    path = peft_folder(folder / "lora.safetensors", lora)
    (path / "unet" / "adapter_config.json").write_text(json.dumps({"alpha_pattern": ["x"]}))
    return path


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        odd(pickle_file, "pickle"),
        odd(text_file, "download it again"),
        odd(absent_file, "not a file"),
        odd(empty_zip, "holds no adapter_model"),
        odd(damaged_zip, "pack the PEFT folder again"),
        odd(zip_of_two, "more than one adapter"),
        odd(zip_that_climbs, "no adapter_model.safetensors"),
        odd(swollen_zip, "unpacks to more than"),
        odd(bomb, "unpacks to more than 64 MB"),
        odd(overlapping_zip, "overlapping files"),
        odd(odd_compression, "is damaged"),
        odd(odd_deflation, "is damaged"),
        odd(odd_names, "is damaged"),
        odd(full_weights, "only works on that one"),
        odd(other_base, "made for another base"),
        odd(odd_alpha, "does not say its alpha"),
        odd(listed_config, "not a PEFT configuration"),
        odd(odd_pattern, "alpha_pattern"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing(
    studio: Studio, lora: LoRA, tmp_path: Path, make: Callable[[Path, LoRA], Path], sentence: str
) -> None:
    path = make(tmp_path, lora)
    with pytest.raises(ValueError, match=sentence):
        studio.import_export.import_lora(path)
    assert not list(studio.resources.root.glob("runs/*"))


def test_a_lora_is_loaded_while_another_is_learned(studio: Studio, lora: LoRA, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.linear_gradient("L").convert("RGB").resize((160, 160)).save(photo)
    config = DreamBoothConfig(
        steps=12, rank=2, prior_preservation=False, measure=False, sample_prompts=("a dog",), sample_steps=1
    )
    runs = []
    for disturbed in (False, True):
        run_id = studio.training.start("dreambooth", config, [photo])
        while disturbed and studio.training.status(run_id)["step"] < 2:
            assert studio.training.status(run_id)["state"] in ("queued", "running")
        if disturbed:
            imported = studio.import_export.import_lora(ours(tmp_path / "x.safetensors", lora))
            assert studio.training.status(run_id)["state"] == "running"
            assert studio.resources.store.get(imported).state == "done"
        assert studio.training.wait(run_id, PATIENCE_S) == "done"
        runs.append(load_file(studio.resources.store.get(run_id).file("adapter.safetensors")))
    assert all(runs[0][name].equal(runs[1][name]) for name in runs[0])


@pytest.mark.parametrize("format", ["diffusers", "peft", "kohya"])
def test_an_exported_file_says_what_it_is(
    studio: Studio, base: Base, lora: LoRA, tmp_path: Path, format: str
) -> None:
    run_id = studio.import_export.import_lora(ours(tmp_path / "rex.safetensors", lora), name="Rex")
    path = studio.import_export.export(run_id, format)
    if format == "peft":
        shutil.unpack_archive(path, tmp_path / "unpacked")
        path = tmp_path / "unpacked" / "unet" / "adapter_model.safetensors"
        config = json.loads((path.parent / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == base.name
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
    assert told["modelspec.title"] == "Rex"
    assert told["modelspec.trigger_phrase"] == "zwx dog"
    assert told["ss_sd_model_name"] == base.name
    assert "embedded base only" in told["modelspec.description"]
    assert "stable-diffusion" not in told["modelspec.architecture"]
    again = studio.import_export.import_lora(studio.import_export.export(run_id, format))
    assert studio.resources.store.get(again).name == "Rex"
    assert studio.resources.store.get(again).config["identifier"] == "zwx dog"


@pytest.mark.parametrize("format", ["safetensors", "diffusers", "peft", "kohya"])
def test_a_truncated_adapter_is_never_handed_out(
    studio: Studio, lora: LoRA, tmp_path: Path, format: str
) -> None:
    run_id = studio.import_export.import_lora(ours(tmp_path / "rex.safetensors", lora))
    path = studio.resources.store.get(run_id).file("adapter.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged or truncated, so it cannot be exported"):
        studio.import_export.export(run_id, format)


@pytest.mark.parametrize("format", ["safetensors", "diffusers", "peft", "kohya"])
def test_every_export_is_read_back_before_it_is_handed_out(
    studio: Studio, lora: LoRA, tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = studio.import_export.import_lora(ours(tmp_path / "rex.safetensors", lora))
    (tmp_path / "short").mkdir()
    monkeypatch.setattr(formats, "save_tensors", cut_off(formats.save_tensors))
    monkeypatch.setattr(shutil, "copy2", lambda source, target: cut_off(shutil.copyfile)(source, target))
    with pytest.raises(ValueError, match=r"is cut short"):
        studio.import_export.export(run_id, format)


def cut_off(write: Callable) -> Callable:
    """Return a writer whose files lose their last 64 bytes."""

    def short(*given: object, **more: object) -> Path:
        write(*given, **more)
        path = Path(next(one for one in reversed(given) if isinstance(one, Path)))  # type: ignore[arg-type]
        path.write_bytes(path.read_bytes()[:-64])
        return path

    return short


@pytest.mark.parametrize("alpha", [torch.int64, torch.float32])
def test_kohya_files_that_diffusers_writes_are_read(
    base: Base, lora: LoRA, tmp_path: Path, alpha: torch.dtype
) -> None:
    """diffusers' train_dreambooth_lora_sd15_advanced.py writes such a file after every run, with integer alphas."""
    state = formats.as_lora(lora)
    wanted = {key: value for key, value in state.tensors.items() if ".attn1." in key or ".self_attn." in key}
    named = {key.replace("text_encoder.", "text_encoder.text_model."): value for key, value in wanted.items()}
    written = convert_state_dict_to_kohya(dict(named))
    assert any(value.dtype is torch.int64 for key, value in written.items() if key.endswith(".alpha"))
    written = {key: value.to(alpha) if key.endswith(".alpha") else value for key, value in written.items()}
    save_file({key: value.contiguous() for key, value in written.items()}, tmp_path / "k.safetensors")
    found = formats.read_lora(tmp_path / "k.safetensors")
    expected = formats.LoRAState(tensors=wanted)
    assert found.modules == expected.modules
    for module in expected.modules:
        assert_close(found.change(module), expected.change(module))
