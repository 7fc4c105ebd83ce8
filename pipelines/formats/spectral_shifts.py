"""Spectral shifts that come and go as files, svdiff-pytorch's and ours, and new ones made of several.

What a header tells is told without torch; the rest imports it when it is called.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipelines.config import SPECTRAL_RANKS, clean_text
from pipelines.data.subject import stored_photos
from pipelines.formats.lora_keys import check_entries, check_file
from pipelines.models.inspection import locate, read_header, weights_file
from pipelines.runs.library import kind_of
from pipelines.runs.store import IMPORTED, Run, RunStore

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.adapters.core import Adapter
    from pipelines.adapters.spectral import Spectral
    from pipelines.jobs.model_cache import ModelCache
    from pipelines.methods.core import View
    from pipelines.models.base import Base

KIND = "spectral"
FORMAT = "svdiff"
UNET_FILE, TEXT_FILE = "spectral_shifts.safetensors", "spectral_shifts_te.safetensors"
FILES = {"unet": UNET_FILE, "text_encoder": TEXT_FILE}
THEIR_PREFIX = {"unet": "", "text_encoder": "text_model."}
ENDING = ".delta"
MAX_FILE_BYTES = 64 * 2**20
MIXED = "mixed"
MIXES = {
    "add": (2, 8),
    "interpolate": (2, 2),
    "style": (2, 2),
    "truncate": (1, 1),
}  # how -> fewest, most runs
RANKS = tuple(map(int, SPECTRAL_RANKS[1:]))  # of a truncation


def holds_shifts(path: Path) -> bool:
    """Return whether a file, a folder or a zip holds spectral shifts, ours or svdiff-pytorch's."""
    if path.is_dir():
        return any((path / name).is_file() for name in FILES.values())
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                return any(PurePosixPath(name).name in FILES.values() for name in archive.namelist())
        if path.suffix.lower() != ".safetensors" or not path.is_file():
            return False
        header = read_header(path)
    except (ValueError, OSError, zipfile.BadZipFile):
        return False  # whoever reads it next says what is wrong with it
    names = [name for name in header if name != "__metadata__"]
    return _own(header) or (bool(names) and all(name.endswith(ENDING) for name in names))


def _own(header: Mapping[str, Any]) -> bool:
    return header.get("__metadata__", {}).get("kind") == KIND


@contextmanager
def _folder_of(path: Path) -> Iterator[Path]:
    """Have svdiff-pytorch's files in a folder, under their own names, for the length of the block."""
    if path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="atelier-shifts-") as name:
        folder = Path(name)
        if path.suffix.lower() == ".zip":
            _unpack(path, into=folder)
        else:
            if all(key.startswith(THEIR_PREFIX["text_encoder"]) for key in _names(check_file(path))):
                raise ValueError(
                    f"{path.name} holds the shifts of the text encoder alone; zip it together with {UNET_FILE}."
                )
            shutil.copyfile(path, folder / UNET_FILE)
        yield folder


def _unpack(path: Path, *, into: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            inside = PurePosixPath(member.filename).name
            if inside not in FILES.values():
                continue
            if (into / inside).exists():
                raise ValueError(f"{path.name} holds {inside} more than once; pack one folder alone.")
            if member.file_size > MAX_FILE_BYTES:
                raise ValueError(
                    f"{inside} in {path.name} unpacks to more than {MAX_FILE_BYTES >> 20} MB; choose another."
                )
            with archive.open(member) as source, (into / inside).open("wb") as copy:
                shutil.copyfileobj(source, copy)


def _names(header: Mapping[str, Any]) -> list[str]:
    return [name for name in header if name != "__metadata__"]


# ---- what a header tells --------------------------------------------------------------------------------------------


def inspect_shifts(path: Path, *, base: str) -> dict[str, Any]:
    """Return what the headers of spectral shifts say, under the keys of ``exchange.inspect_lora``."""
    if path.suffix.lower() == ".safetensors" and _own(header := check_file(path)):
        return _told("atelier", {"": header}, problem="")
    with _folder_of(path) as folder:
        headers = {
            part: read_header(folder / name) for part, name in FILES.items() if (folder / name).is_file()
        }
        for part, header in headers.items():
            check_entries(FILES[part], header)
    return _told(FORMAT, headers, problem=_misfit(headers, base=base))


def _told(format: str, headers: Mapping[str, Mapping[str, Any]], *, problem: str) -> dict[str, Any]:
    shapes = [header[name]["shape"] for header in headers.values() for name in _names(header)]
    metadata = {
        key: str(text) for header in headers.values() for key, text in header.get("__metadata__", {}).items()
    }
    return {
        "format": format,
        "keys": len(shapes),
        "rank": 0,
        "ranks": [],
        "parameters": sum(prod(shape) for shape in shapes),
        "base": "",
        "trigger": "",
        "problem": problem,
        "metadata": {key[:200]: text[:200] for key, text in list(metadata.items())[:40]},
    }


def _misfit(headers: Mapping[str, Mapping[str, Any]], *, base: str) -> str:
    """Return the sentence for the first shift that a base in a folder has no weight for, or of another size."""
    if "unet" not in headers:
        return f"There is no {UNET_FILE} beside the text encoder's; zip both files."
    place = locate(base)
    if place.kind != "folder" or place.path is None:
        return ""
    for part, header in headers.items():
        weights = read_header(weights_file(place.path / part))
        for name in _names(header):
            path = name.removesuffix(ENDING).removeprefix(THEIR_PREFIX[part])
            found = weights.get(f"{path}.weight") or weights.get(f"text_model.{path}.weight")
            sizes = _sizes(found["shape"]) if found else ()
            if header[name]["shape"] not in [[size] for size in sizes]:
                return f"The shifts of {path} do not fit this base; load the base that they were trained on."
    return ""


def _sizes(shape: list[int]) -> tuple[int, ...]:
    """How many values may move in a weight: one or each of a norm's, min(M, N) of a matrix."""
    return (1, shape[0]) if len(shape) == 1 else (min(shape[0], prod(shape[1:])),)


# ---- in and out -----------------------------------------------------------------------------------------------------


def read_shifts(path: Path, base: Base) -> Spectral:
    """Return the shifts in a file, a folder or a zip, not live. ValueError for those of another base."""
    from pipelines.adapters.core import load_adapter
    from pipelines.adapters.spectral import Spectral
    from pipelines.formats.svdiff import read_svdiff

    if path.suffix.lower() == ".safetensors" and _own(check_file(path)):
        adapter = load_adapter(path, base)
        assert isinstance(adapter, Spectral)
        return adapter
    with _folder_of(path) as folder:
        adapter = read_svdiff(folder, base)
    for name, delta in adapter.state_dict().items():
        if not delta.isfinite().all():
            raise ValueError(f"{path.name}: {name} holds numbers that are not finite; choose another file.")
    return adapter


def compare_shifts(adapter: Spectral, written: Path, base: Base) -> str:
    """Read svdiff-pytorch's files back and say how they differ: in the norms, which have one value there."""
    from pipelines.formats.svdiff import read_svdiff

    mine, theirs = adapter.state_dict(), read_svdiff(written, base).state_dict()
    gains = {key for key, shift in adapter.shifts.items() if shift.form == "gain"}
    worst, lost, whole = 0.0, 0.0, 0.0
    for name, delta in mine.items():
        found = theirs[name][: len(delta)]
        if name.removesuffix(ENDING) in gains:
            lost += float((found - delta).square().sum())
            whole += float(delta.square().sum())
        else:
            worst = max(worst, float((found - delta).abs().max()))
    if worst:
        raise ValueError(f"{written.name} differs by {worst:.2g}; export it in our own format.")
    told = f"{len(mine)}/{len(mine)} shifts, largest difference {worst:.2g} in the matrices"
    share = (lost / whole) ** 0.5 if whole else 0.0
    return told + (f"; one value for each norm loses {share:.1%} of the norms' shifts" if share else "")


# ---- shifts of finished runs ----------------------------------------------------------------------------------------


def shifts_of(run: Run, shop: ModelCache) -> tuple[Spectral, Base]:
    """Return a run's spectral shifts and its base. ValueError when it holds something else."""
    from pipelines.adapters.spectral import Spectral

    loaded = shop.base(run.base["spec"])
    adapter = shop.adapter(run.file("adapter.safetensors"), loaded)
    if not isinstance(adapter, Spectral):
        raise ValueError(f"The run {run.name!r} holds no spectral shifts; export it as a LoRA.")
    return adapter, loaded


def shifted_layers(run: Run) -> list[str]:
    """Return the layers whose singular values a run's adapter moves; [] when it holds no spectral shifts."""
    if kind_of(run) != KIND:
        return []
    from pipelines.methods.spectral_views import matrices

    return matrices([name for name in read_header(run.file("adapter.safetensors")) if name != "__metadata__"])


def correlation_of(runs: Sequence[Run]) -> View:
    """Return how alike the shifts of several runs are. ValueError unless they are two or more on one base."""
    from pipelines.adapters.core import read_tensors
    from pipelines.methods.spectral_views import likeness

    for run in runs:
        if kind_of(run) != KIND:
            raise ValueError(f"The run {run.name!r} holds no spectral shifts; choose runs of SVDiff.")
    if len(runs) < 2:
        raise ValueError("One run alone has nothing to be like; choose at least two runs of SVDiff.")
    told = [read_tensors(run.file("adapter.safetensors")) for run in runs]
    if len({header["base_hash"] for _, header in told}) > 1:
        raise ValueError("These runs are of different bases, whose singular values differ; choose one base.")
    return likeness([run.name for run in runs], [state for state, _ in told], _subjects(runs))


def _subjects(runs: Sequence[Run]) -> list[list[int]]:
    """The places of each subject's runs, where one of several subjects was learned at more than one learning rate.

    A subject is what the same photographs show; [] where there is nothing to put together.
    """
    found: dict[object, list[int]] = {}
    for place, run in enumerate(runs):
        photos = stored_photos(run.path)
        seen = tuple(hashlib.sha256(photo.read_bytes()).hexdigest() for photo in photos)
        found.setdefault(seen or place, []).append(place)
    groups = list(found.values())
    rates = [[runs[place].config.get("learning_rate") for place in group] for group in groups]
    apart = all(len(set(group)) == len(group) for group in rates)
    return groups if apart and 1 < len(groups) < len(runs) else []


def combine(
    runs: Sequence[Run], *, how: str, share: float, rank: int, name: str, shop: ModelCache, store: RunStore
) -> str:
    """Make a finished run from the shifts of others and return its id.

    ``how``: "add" two or more; "interpolate" two, ``share`` of the first; "style", the geometry of the first with the
    appearance of the second; "truncate" one to its first ``rank`` singular values. Raises ValueError for what cannot
    be combined.
    """
    check_mix(runs, how=how, share=share, rank=rank)
    found = [shifts_of(run, shop) for run in runs]
    if len({loaded.hash for _, loaded in found}) > 1:
        raise ValueError("These runs are of different bases, whose singular values differ; choose one base.")
    base, adapters = found[0][1], [adapter for adapter, _ in found]
    with shop.aside(base):
        mixed = _holding(_mixed(adapters, how=how, share=share, rank=rank), adapters, base)
    words = [
        str(run.config.get("identifier", "")) + " " + str(run.config.get("class_noun", "")) for run in runs
    ]
    config = {
        "identifier": clean_text(" and ".join(word.strip() for word in words if word.strip())),
        "class_noun": "",
        "source": MIXED,
        "file": clean_text(f"{how}: {', '.join(run.name for run in runs)}"),
    }
    title = clean_text(name) or f"{' + '.join(run.name for run in runs)} ({how})"
    return shelve(mixed, base, config=config, name=title, store=store)


def shelve(adapter: Adapter, base: Base, *, config: dict[str, Any], name: str, store: RunStore) -> str:
    """Make a finished run of an adapter that no training here has made, and return its id."""
    from pipelines.adapters.core import save_adapter

    about = {"spec": base.spec, "family": base.family, "hash": base.hash, "name": base.name}
    with store.draft(IMPORTED, config, about, name=name) as run:
        told = {"name": run.name, "method": IMPORTED, "config": config, "base": about}
        save_adapter(run.file("adapter.safetensors"), adapter, extra=told)
        run.append("created", method=IMPORTED, base=about, config=config, photos=0)
        run.append("state", state="done", message="")
    return run.id


def check_mix(runs: Sequence[Run], *, how: str, share: float, rank: int) -> None:
    """Raise ValueError unless so many runs can be combined in this way."""
    if how not in MIXES:
        raise ValueError(f"Shifts are combined by {', '.join(MIXES)}, not by {str(how)[:40]!r}; choose one.")
    fewest, most = MIXES[how]
    if not fewest <= len(runs) <= most:
        raise ValueError(
            f"To {how} takes {fewest if fewest == most else f'{fewest} to {most}'} runs, not {len(runs)}."
        )
    if how == "interpolate" and not 0.0 <= share <= 1.0:
        raise ValueError(f"The share of the first run is {share:g}; it must lie between 0 and 1.")
    if how == "truncate" and rank < 1:
        raise ValueError(f"The rank to keep is {rank}; it must be at least 1.")


def _mixed(adapters: Sequence[Spectral], *, how: str, share: float, rank: int) -> dict[str, Tensor]:
    from pipelines.adapters import spectral_arithmetic as mixing

    states = [adapter.state_dict() for adapter in adapters]
    if how == "add":
        return mixing.added([(state, 1.0) for state in states])
    if how == "interpolate":
        return mixing.interpolated(states[0], states[1], share)
    if how == "style":
        return mixing.style_mixed(states[0], states[1])
    norms = [f"{key}{ENDING}" for key, shift in adapters[0].shifts.items() if shift.factors is None]
    return mixing.truncated(states[0], rank, norms=norms)


def _holding(state: Mapping[str, Tensor], adapters: Sequence[Spectral], base: Base) -> Spectral:
    """Return shifts that hold a state: of the one subset all come from, or of the whole UNet."""
    from torch.nn.functional import pad

    from pipelines.adapters.core import injected
    from pipelines.adapters.spectral import Spectral

    subsets = {adapter.subset for adapter in adapters}
    whole = Spectral(
        subset=subsets.pop() if len(subsets) == 1 else "UNet",
        text_encoder=any(adapter.text_encoder for adapter in adapters),
    )
    with injected(whole, base):
        own = whole.state_dict()
        given = {name: pad(delta, (0, len(own[name]) - len(delta))) for name, delta in state.items()}
        whole.load_state_dict({**own, **given})
    return whole
