"""LoRA file headers, files from the Hub, and round trips of exported files."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.adapters.core import save_adapter
from pipelines.adapters.full import Full
from pipelines.adapters.lora import LoRA
from pipelines.formats import lora as formats
from pipelines.formats.exchange import inspect_file
from pipelines.models.base import Base
from pipelines.models.hub import choose_lora
from pipelines.studio import Studio
from tests.tiny import shop_with, visible_lora

ROOT = Path(__file__).resolve().parents[2]
WORDS = {"identifier": "zwx", "class_noun": "dog"}


@pytest.fixture
def studio(tmp_path: Path, base: Base) -> Iterator[Studio]:
    studio = Studio(tmp_path / "data", model_cache=shop_with(base))
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def lora(base: Base) -> LoRA:
    return visible_lora(base)


def shelve(studio: Studio, adapter: Any, *, base: Base) -> str:
    """Return a finished run that holds an adapter."""
    about = {"spec": "embedded", "family": "embedded", "hash": base.hash, "name": base.name}
    with studio.resources.store.draft("dreambooth", dict(WORDS), about, name="Rex") as run:
        facts = {"base": {"name": base.name}, "config": WORDS}
        save_adapter(run.file("adapter.safetensors"), adapter, extra=facts)
        run.append("state", state="done", message="")
    return run.id


def peft_zip(folder: Path, adapter: LoRA) -> Path:
    written = formats.write_peft(folder / "peft", adapter)
    with zipfile.ZipFile(folder / "peft.zip", "w") as archive:
        for file in written.rglob("*.*"):
            archive.write(file, f"mine/{file.relative_to(written)}")
    return folder / "peft.zip"


def test_a_header_tells_what_a_file_is(lora: LoRA, tmp_path: Path) -> None:
    save_adapter(
        tmp_path / "own.safetensors", lora, extra={"base": {"name": "Embedded base"}, "config": WORDS}
    )
    facts = {"modelspec.trigger_phrase": "zwx dog", "ss_sd_model_name": "Embedded base"}
    formats.write_kohya(tmp_path / "kohya.safetensors", lora, metadata=facts)
    formats.write_diffusers(tmp_path / "diffusers.safetensors", lora, metadata=facts)
    modules, values = len(lora.scales()), sum(parameter.numel() for parameter in lora.parameters())
    for name in ("own", "kohya", "diffusers"):
        told = inspect_file(tmp_path / f"{name}.safetensors", base="embedded")
        assert told["format"] == ("atelier" if name == "own" else name)
        assert told["keys"] == modules * (3 if name == "kohya" else 2)
        assert (told["rank"], told["ranks"]) == (2, [1, 2])
        assert told["parameters"] == values + (modules if name == "kohya" else 0)
        assert (told["base"], told["trigger"], told["problem"]) == ("Embedded base", "zwx dog", "")
    zipped = inspect_file(peft_zip(tmp_path, lora), base="embedded")
    assert (zipped["format"], zipped["keys"], zipped["problem"]) == ("peft", modules * 2, "")
    assert inspect_file(tmp_path / "peft", base="embedded")["parameters"] == values


def test_a_header_tells_what_will_not_fit(tmp_path: Path) -> None:
    wide = {
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight": torch.ones(4, 320),
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_B.weight": torch.ones(320, 4),
    }
    save_file(wide, tmp_path / "sd15.safetensors")
    told = inspect_file(tmp_path / "sd15.safetensors", base="embedded")
    assert (told["rank"], told["keys"]) == (4, 2)
    assert "has shape (320, 320), the weight has (32, 32)" in told["problem"]
    save_file({"vae.encoder.weight": torch.ones(2, 2)}, tmp_path / "vae.safetensors")
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("x.txt", "x")
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04 torn")
    for name, sentence in (
        ("vae.safetensors", "of its keys are unknown"),
        ("empty", "not a PEFT folder"),
        ("empty.zip", "holds no adapter_model"),
        ("torn.zip", "damaged"),
        ("x.ckpt", "pickle"),
        ("gone.safetensors", "is not a file"),
    ):
        with pytest.raises(ValueError, match=sentence):
            inspect_file(tmp_path / name, base="embedded")


def test_headers_are_told_without_torch(lora: LoRA, tmp_path: Path) -> None:
    path = formats.write_kohya(tmp_path / "kohya.safetensors", lora)
    script = (
        "import sys\nfrom pathlib import Path\nfrom pipelines.formats.exchange import inspect_file\n"
        "print(inspect_file(Path(sys.argv[1]), base='embedded')['format'], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["kohya", "False"]


def test_what_is_written_comes_back_through_the_readers_of_others(
    studio: Studio, base: Base, lora: LoRA
) -> None:
    run_id = shelve(studio, lora, base=base)
    keys = 2 * len(lora.scales())
    for format in ("safetensors", "diffusers", "peft"):
        assert (
            studio.import_export.verified_export(run_id, format)[1]
            == f"{keys}/{keys} keys, largest difference 0"
        ), format
    told = studio.import_export.verified_export(run_id, "kohya")[1]
    assert told.startswith(f"{keys}/{keys} keys, largest difference ")
    assert told.endswith("(the file is float16)")
    with pytest.raises(ValueError, match="no export format 'docx'"):
        studio.import_export.verified_export(run_id, "docx")[1]


def test_a_file_that_lost_or_changed_something_is_told(
    studio: Studio, base: Base, lora: LoRA, tmp_path: Path
) -> None:
    run = studio.resources.store.get(shelve(studio, lora, base=base))
    expected = formats.read_lora(run.file("adapter.safetensors"))
    written = formats.write_diffusers(tmp_path / "x.safetensors", expected)
    whole = load_file(written)
    first = sorted(whole)[0].rsplit(".lora_", 1)[0]
    save_file({key: value for key, value in whole.items() if not key.startswith(first)}, written)
    keys = 2 * len(lora.scales())
    with pytest.raises(ValueError, match=rf"Only {keys - 2}/{keys} keys"):
        formats.compare_loras(expected, formats.read_back(written, format="diffusers"), name="x")
    save_file({key: value * 1.1 for key, value in whole.items()}, written)
    with pytest.raises(ValueError, match="differs by"):
        formats.compare_loras(expected, formats.read_back(written, format="diffusers"), name="x")


def test_full_weights_leave_as_they_are_or_as_the_nearest_lora(studio: Studio, base: Base) -> None:
    """The change has rank 3 in every layer: a rank-3 LoRA is exact, a rank-2 LoRA reports its error."""
    full = Full(text_encoder=True)
    full.inject(base).remove()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for master in full.parameters():
            if master.dim() == 1:
                master.add_(0.01)
                continue
            first, second = (torch.randn(size, 3, generator=generator) for size in master.flatten(1).shape)
            master.add_((0.01 * first @ second.T).view(master.shape))
    run_id = shelve(studio, full, base=base)
    assert studio.import_export.verified_export(run_id)[1].endswith("keys, largest difference 0")
    for format in ("diffusers", "peft", "kohya"):
        told = studio.import_export.verified_export(run_id, format, rank=3)[1]
        assert "a rank-3 LoRA (approximation error 0.0%)" in told
        assert "in parameters that a LoRA cannot store" in told, "norms, biases and the word table"
    worse = studio.import_export.verified_export(run_id, "diffusers", rank=2)[1]
    share = float(re.search(r"approximation error ([\d.]+)%", worse)[1])  # type: ignore[index]
    assert 20 < share < 60, "about a third of the squares"
    header = inspect_file(studio.import_export.export(run_id, "kohya", rank=2), base="embedded")
    assert "It stands for fully trained weights" in header["metadata"]["modelspec.description"]
    with pytest.raises(ValueError, match="cannot be written as svdiff"):
        studio.import_export.verified_export(run_id, "svdiff")[1]


# The Hub


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ({"README.md": 1, "a.safetensors": 5}, ["a.safetensors"]),
        ({"pytorch_lora_weights.safetensors": 5, "b.safetensors": 5}, ["pytorch_lora_weights.safetensors"]),
        (
            {"adapter_model.safetensors": 5, "adapter_config.json": 1},
            ["adapter_model.safetensors", "adapter_config.json"],
        ),
    ],
)
def test_the_lora_of_a_repository_is_found(sizes: dict[str, int], chosen: list[str]) -> None:
    assert choose_lora(sizes, name="o/n") == chosen


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        ({"pytorch_lora_weights.bin": 5}, "no .safetensors file"),
        ({"a.safetensors": 5, "b.safetensors": 5}, "holds 2 .safetensors files"),
        ({"a.safetensors": 600_000_000}, "600 MB"),
        ({"model_index.json": 1, "unet/x.safetensors": 5}, "base model"),
    ],
)
def test_repositories_without_one_small_lora_are_refused(sizes: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        choose_lora(sizes, name="o/n")


def test_a_lora_of_the_hub_becomes_a_run(
    studio: Studio, lora: LoRA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = formats.write_diffusers(tmp_path / "rex.safetensors", lora)
    asked: list[Any] = []

    def info(self: Any, name: str, **options: Any) -> SimpleNamespace:
        asked.append((name, options["revision"]))
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=path.name, size=path.stat().st_size)])

    def download(name: str, file: str, *, local_dir: Path, **_: Any) -> str:
        target = Path(local_dir) / file
        target.write_bytes(path.read_bytes())
        return str(target)

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ValueError, match="Downloads are off"):
        studio.import_export.load_from_hub("someone/rex")
    assert asked == []
    monkeypatch.setenv("ATELIER_HUB", "1")
    run_id = studio.import_export.load_from_hub("someone/rex@v1")
    assert asked == [("someone/rex", "v1")]
    (card,) = studio.library.list_runs()
    assert (card.id, card.name, card.state) == (run_id, "someone/rex", "done")


def test_without_a_network_the_hub_is_a_sentence(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_HUB", "1")
    with pytest.raises(ValueError, match="could not be fetched from the Hugging Face Hub"):
        studio.import_export.load_from_hub("someone/rex")
    for name in ("rex", "../../etc", "a/b/c", "https://x/y", "a/b;rm", "a/--b", "a/b@v 1", "a/b.git"):
        with pytest.raises(ValueError, match="is not a valid Hub repository"):
            studio.import_export.load_from_hub(name)
    assert json.dumps(studio.library.list_runs()) == "[]"
