"""The table of file formats: how each is detected, read, written and verified, and which adapters it can store.

A format is detected from headers without torch; the functions of a row import torch when they are called.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.config import MAX_TEXT, clean_text
from pipelines.formats import concepts, svdiff
from pipelines.formats import textual_inversion as embedding
from pipelines.formats.core import Examined, Imported, Models, Shapes, Source, trigger_of
from pipelines.formats.lora_keys import examine_lora, is_diffusers, is_kohya, is_peft
from pipelines.runs.library import kind_of
from pipelines.runs.store import Run

if TYPE_CHECKING:
    from pipelines.formats.lora import LoRAState
    from pipelines.models.base import Base

KINDS = {
    "lora": "a LoRA",
    "full": "fully trained weights",
    "spectral": "spectral shifts",
    "words": "an embedding",
    "continual": "a sequence of concepts",
    "subspace": "an identity",
}  # kinds of adapters and their display names
Writer = Callable[["Content", Path, Mapping[str, str]], Path]


@dataclass(frozen=True)
class Content:
    """The content of an export, computed once and shared by its format's ``write`` and ``check``.

    ``nearness`` describes the approximation error if the format stores the adapter only approximately, else "".
    """

    value: Any
    nearness: str = ""


@dataclass(frozen=True)
class FileFormat:
    """One row of ``FORMATS``; ``exact`` and ``nearest`` are the adapter kinds it stores exactly and approximately."""

    name: str  # the program's name, used to select the format for export
    title: str  # in a dropdown
    shown: str  # display name for inspected files
    exact: tuple[str, ...]
    recognises: Callable[[Source], bool]
    examine: Callable[[Source, Shapes], Examined]
    read: Callable[
        [Source, Base, Collection[str]], Imported
    ]  # the last argument contains the identifiers already used by runs
    content: Callable[[Run, Models, int], Content]  # the last argument is the rank of an approximation
    write: Writer  # to a path without a suffix, with the file's metadata
    check: Callable[
        [Content, Path], str
    ]  # with the target's own loader; raises ValueError if the file read back is incomplete
    nearest: tuple[str, ...] = ()


def recognise(source: Source) -> FileFormat:
    """Return the format of an opened file; an unknown file is treated as a LoRA and rejected by its key names."""
    return next((row for row in FORMATS if row.recognises(source)), DIFFUSERS)


def format_of(kind: str, name: str) -> FileFormat:
    """Return a program's format for adapters of a kind. Raises ValueError naming the formats that support it."""
    check_format(name)
    rows = [row for row in FORMATS if kind in (*row.exact, *row.nearest)]
    found = next((row for row in rows if row.name == name), None)
    if found is None:
        raise ValueError(
            f"{KINDS[kind].capitalize()} cannot be written as {name}; choose {', '.join(row.name for row in rows)}."
        )
    return found


def check_format(name: str) -> None:
    """Raise ValueError unless an export format has this name."""
    names = list(dict.fromkeys(row.name for row in FORMATS))
    if name not in names:
        raise ValueError(f"There is no export format {str(name)[:40]!r}; choose one of {', '.join(names)}.")


def choices(kind: str) -> list[tuple[str, str]]:
    """Return (title, name) of every format that a run of a kind can be exported in, exact ones first."""
    rows = [row for held in ("exact", "nearest") for row in FORMATS if kind in getattr(row, held)]
    return [(row.title, row.name) for row in rows]


def has_rank(kind: str) -> bool:
    """Return whether some format stores adapters of a kind only as a LoRA approximation of a chosen rank."""
    return any(kind in row.nearest for row in FORMATS)


# ---- Atelier --------------------------------------------------------------------------------------------------------


def _is_own(source: Source) -> bool:
    return source.metadata.get("kind") in KINDS


def _examine_own(source: Source, shapes: Shapes) -> Examined:
    if source.metadata["kind"] == "lora":
        return examine_lora(source, shapes)
    return Examined(trigger=source.metadata.get("words", "") or trigger_of(source.metadata))


def _read_own(source: Source, base: Base, taken: Collection[str]) -> Imported:
    from pipelines.adapters.registry import load_adapter

    kind = source.metadata["kind"]
    if kind == "lora":
        return _read_lora(source, base, taken)
    adapter: Any = load_adapter(source.path, base)
    if kind == "words":
        return Imported(adapter, {"source": "words", "identifier": adapter.words, "placeholder": ""})
    return Imported(adapter, {"source": svdiff.FORMAT if kind == "spectral" else "atelier"})


def _own_content(run: Run, models: Models, rank: int) -> Content:
    return Content(run)


def _write_own(content: Content, target: Path, facts: Mapping[str, str]) -> Path:
    return content.value.copy_out("adapter.safetensors", target.parent)


def _check_own(content: Content, written: Path) -> str:
    from pipelines.adapters.core import read_tensors

    first, second = (read_tensors(path)[0] for path in (content.value.file("adapter.safetensors"), written))
    same = [key for key in first if key in second and first[key].shape == second[key].shape]
    if len(same) < len(first) or len(second) > len(same):
        raise ValueError(
            f"Only {len(same)}/{len(first)} keys of {written.name} were read back; export it again."
        )
    worst = max((float((first[key].float() - second[key].float()).abs().max()) for key in same), default=0.0)
    return f"{len(same)}/{len(first)} keys, largest difference {worst:.2g}"


# ---- LoRA -----------------------------------------------------------------------------------------------------------


def _read_lora(source: Source, base: Base, taken: Collection[str]) -> Imported:
    from pipelines.formats.lora import adopt, read_source

    state = read_source(source)
    facts = {"source": state.source, "identifier": clean_text(trigger_of(state.metadata)[:MAX_TEXT])}
    return Imported(adopt(state, base), facts, title=state.metadata.get("modelspec.title", ""))


def _lora_content(run: Run, models: Models, rank: int) -> Content:
    from pipelines.formats.lora import read_lora

    path = run.file("adapter.safetensors")
    if kind_of(run) in ("lora", "subspace"):
        return Content(read_lora(path))
    from pipelines.formats.low_rank import nearest_lora

    base = models.base(run.base["spec"])
    state, near = nearest_lora(models.adapter(path, base), base, rank)
    return Content(state, near.told(rank=rank))


def _write_diffusers(content: Content, target: Path, facts: Mapping[str, str]) -> Path:
    from pipelines.formats.lora import write_diffusers

    return write_diffusers(target.with_suffix(".safetensors"), content.value, metadata=facts)


def _write_kohya(content: Content, target: Path, facts: Mapping[str, str]) -> Path:
    from pipelines.formats.lora import write_kohya

    return write_kohya(target.with_suffix(".safetensors"), content.value, metadata=facts)


def _write_peft(content: Content, target: Path, facts: Mapping[str, str]) -> Path:
    from pipelines.formats.lora import write_peft

    return write_peft(target, content.value, base=facts["ss_sd_model_name"], metadata=facts)


def _check_lora(format: str, content: Content, written: Path) -> str:
    from pipelines.formats.lora import compare_loras, read_back

    expected: LoRAState = content.value
    told, worst = compare_loras(expected, read_back(written, format=format), name=written.name)
    return told + (" (the file is float16)" if worst and format == "kohya" else "")


# ---- spectral shifts ------------------------------------------------------------------------------------------------


def _read_svdiff(source: Source, base: Base, taken: Collection[str]) -> Imported:
    files = {part: source.path / place for part, place in svdiff.files_of(source).items()}
    return Imported(svdiff.read_svdiff(files, base), {"source": svdiff.FORMAT})


def _svdiff_content(run: Run, models: Models, rank: int) -> Content:
    base = models.base(run.base["spec"])
    return Content((models.adapter(run.file("adapter.safetensors"), base), base, models))


def _write_svdiff(content: Content, target: Path, facts: Mapping[str, str]) -> Path:
    adapter, base, _ = content.value
    svdiff.write_svdiff(adapter, base, target)
    return target


def _check_svdiff(content: Content, written: Path) -> str:
    adapter, base, models = content.value
    with models.aside(base):
        return svdiff.compare_shifts(adapter, written, base)


# ---- textual inversion ----------------------------------------------------------------------------------------------


def _word_content(key: str, run: Run, models: Models, rank: int) -> Content:
    """Return (key, vectors (n, C)); an empty ``key`` means the word's placeholder."""
    adapter: Any = models.adapter(run.file("adapter.safetensors"), models.base(run.base["spec"]))
    return Content((key or embedding.placeholder(run), adapter.vectors()))


def _write_word(content: Content, target: Path, facts: Mapping[str, str]) -> Path:
    key, vectors = content.value
    return embedding.write_embedding(vectors, target.with_suffix(".safetensors"), key=key, facts=facts)


def _check_word(content: Content, written: Path) -> str:
    key, vectors = content.value
    return embedding.compare_embedding(vectors, written, key=key)


# ---- sequences of concepts -----------------------------------------------------------------------------------------


def _concepts_content(format: str, run: Run, models: Models, rank: int) -> Content:
    return Content(concepts.read_concepts(run, models, format=format))


def _write_concepts(content: Content, target: Path, facts: Mapping[str, str]) -> Path:
    return concepts.write_concepts(content.value, target, facts)


def _check_concepts(content: Content, written: Path) -> str:
    return concepts.check_concepts(content.value, written)


# ---- the table ------------------------------------------------------------------------------------------------------


def _lora_format(name: str, *, title: str, recognises: Callable[[Source], bool], write: Writer) -> FileFormat:
    """Return a row for a program's LoRA files; the three rows differ in key names and loaders."""
    return FileFormat(
        name, title=title, shown=name, exact=("lora", "subspace"), nearest=("spectral", "full"), recognises=recognises,
        examine=examine_lora, read=_read_lora, content=_lora_content, write=write,
        check=partial(_check_lora, name),
    )  # fmt: skip


def _word_format(
    name: str, *, title: str, shown: str, recognises: Callable[[Source], bool], key: str
) -> FileFormat:
    """Return a row for a program's textual inversion files."""
    return FileFormat(
        name, title=title, shown=shown, exact=("words",), recognises=recognises,
        examine=embedding.examine_embedding, read=embedding.read_embedding,
        content=partial(_word_content, key), write=_write_word, check=_check_word,
    )  # fmt: skip


def _concepts_format(name: str, *, title: str) -> FileFormat:
    """Return a row for a sequence as a program's LoRA and embeddings, whose files are imported by their own rows."""
    return FileFormat(
        name, title=title, shown=name, exact=("continual",), recognises=lambda source: False,
        examine=examine_lora, read=_read_lora, content=partial(_concepts_content, name),
        write=_write_concepts, check=_check_concepts,
    )  # fmt: skip


OWN = FileFormat(
    "safetensors", title="Atelier (.safetensors)", shown="atelier", exact=tuple(KINDS), recognises=_is_own,
    examine=_examine_own, read=_read_own, content=_own_content, write=_write_own, check=_check_own,
)  # fmt: skip
DIFFUSERS = _lora_format("diffusers", title="diffusers LoRA", recognises=is_diffusers, write=_write_diffusers)
FORMATS = (
    OWN,
    DIFFUSERS,
    _lora_format("peft", title="PEFT folder", recognises=is_peft, write=_write_peft),
    _lora_format("kohya", title="ComfyUI / kohya", recognises=is_kohya, write=_write_kohya),
    FileFormat(
        svdiff.FORMAT, title="svdiff-pytorch (zip)", shown=svdiff.FORMAT, exact=("spectral",),
        recognises=svdiff.is_svdiff, examine=svdiff.examine_svdiff, read=_read_svdiff,
        content=_svdiff_content, write=_write_svdiff, check=_check_svdiff,
    ),
    _word_format(
        "kohya", title="A1111 / ComfyUI embedding", shown="A1111 embedding",
        recognises=embedding.is_webui, key=embedding.WEBUI_KEY,
    ),
    _word_format(
        "diffusers", title="diffusers embedding", shown="diffusers embedding",
        recognises=embedding.is_embedding, key="",
    ),
    _concepts_format("diffusers", title="diffusers LoRA and embeddings (zip)"),
    _concepts_format("kohya", title="ComfyUI / A1111 LoRA and embeddings (zip)"),
)  # fmt: skip
