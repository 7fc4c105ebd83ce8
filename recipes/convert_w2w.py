"""Convert the authors' weight space to Atelier's format, once: ``python -m recipes.convert_w2w --source <folder>``.

The source is a folder with the files of snap-research/weights2weights, or that name to download them from the Hub (about
4.3 GB; non-commercial licence). Tensors are read with ``weights_only`` and memory mapping; V is copied a few columns at a
time. The attribute table is a pickled pandas table, and reading it runs code that the file contains: it is read only
with ``--read-pickled-table``, in a process of its own that can do nothing but return numbers.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipelines.weightspace.directions import Directions, fit_directions
from pipelines.weightspace.index import Key, Manifest, key_order, own_spaces
from pipelines.weightspace.space import Space

REPOSITORY = "snap-research/weights2weights"
FILES = ("mean.pt", "std.pt", "V.pt", "proj_1000pc.pt", "weight_dimensions.pt")
TABLE = "identity_df.pt"
PREFIX = "base_model.model."
NOTE = (
    "The authors' space of 64,974 identities (Dravid et al. 2024), for non-commercial academic use. Its identities come "
    "from CelebA."
)
READ_TABLE = """
import sys, numpy, torch
table = torch.load(sys.argv[1], weights_only=False, map_location="cpu")
columns = [name for name in table.columns if name != "file"]
values = table[columns].to_numpy(dtype="float32")
numpy.savez(sys.argv[2], values=values, columns=numpy.asarray(columns, "U"), rows=numpy.asarray(list(table.index), "U"))
"""

log = logging.getLogger(__name__)


def read_tensor(path: Path) -> Tensor:
    """Return the memory-mapped tensor of a .pt file. Raises ValueError for anything else."""
    found = _load(path)
    if not isinstance(found, Tensor):
        raise ValueError(f"{path.name} holds {type(found).__name__} instead of a tensor; download it again.")
    return found.detach()


def read_keys(path: Path) -> tuple[Key, ...]:
    """Return the flattening order from ``weight_dimensions.pt``: {PEFT key: ((numel,), shape)}, in order.

    Raises ValueError unless it is the alphabetical order of the keys, which is that of the authors' vectors.
    """
    dimensions: Any = _load(path)
    if not isinstance(dimensions, dict) or not all(str(name).startswith(PREFIX) for name in dimensions):
        raise ValueError(f"{path.name} is not a table of LoRA keys; download it again.")
    shapes = {f"unet.{name.removeprefix(PREFIX)}": tuple(shape) for name, (_, shape) in dimensions.items()}
    keys = key_order(shapes)
    wrong = next((name for name, key in zip(shapes, keys, strict=True) if name != key.name), None)
    if wrong:
        raise ValueError(
            f"{path.name} does not list the weights in alphabetical order (first: {wrong}), so the vectors would be cut "
            "in the wrong places; use the authors' file."
        )
    return keys


def _load(path: Path) -> object:
    try:
        return torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except FileNotFoundError:
        raise ValueError(
            f"{path.name} is missing; the source needs {', '.join(FILES)} of {REPOSITORY}."
        ) from None
    except (RuntimeError, UnpicklingError, EOFError, OSError) as error:
        raise ValueError(f"{path.name} cannot be read as tensors ({error}); download it again.") from error


def read_table(path: Path) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Return (values (N, K) in {0, 1}, attribute names, identity names) of the pickled table, read in another process."""
    with tempfile.TemporaryDirectory(prefix="atelier-table-") as folder:
        out = Path(folder) / "table.npz"
        line = [sys.executable, "-I", "-c", READ_TABLE, str(path), str(out)]
        finished = subprocess.run(line, capture_output=True, text=True, check=False, timeout=600)
        if finished.returncode:
            reason = (finished.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ValueError(
                f"{path.name} cannot be read as a pandas table ({reason}); install pandas, or leave it out."
            )
        with np.load(out, allow_pickle=False) as found:
            values = (found["values"] > 0).astype(np.float32)  # CelebA's labels are -1 and 1, others 0 and 1
            return values, tuple(map(str, found["columns"])), tuple(map(str, found["rows"]))


def converted(source: Path, *, name: str, components: int, table: bool) -> Space:
    """Return the space of the authors' files; its basis is a view of the memory-mapped V."""
    folder = source / "files" if (source / "files").is_dir() else source
    mean, std = (read_tensor(folder / file).flatten().float() for file in ("mean.pt", "std.pt"))
    wide, scores, keys = (
        read_tensor(folder / "V.pt"),
        read_tensor(folder / "proj_1000pc.pt"),
        read_keys(folder / "weight_dimensions.pt"),
    )
    size = keys[-1].offset + keys[-1].size
    for file, found, expected in (
        ("mean.pt", len(mean), size), ("std.pt", len(std), size), ("V.pt", wide.shape[0], size),
    ):  # fmt: skip
        if found != expected:
            raise ValueError(
                f"{file} has {found} weights and weight_dimensions.pt {expected}; use files of one space."
            )
    components = min(components, wide.shape[1])
    _check_orthonormal(wide[:, : min(8, components)])
    known = min(components, scores.shape[1])
    scores = torch.nn.functional.pad(scores[:, :known].float(), (0, components - known))
    config = json.loads(path.read_text()) if (path := folder / "adapter_config.json").is_file() else {}
    rank, alpha = int(config.get("r", 1)), float(config.get("lora_alpha", 27))
    manifest = Manifest(
        name=name, title="weights2weights faces", note=NOTE + _unknown(known, components), base="Realistic Vision 5.1",
        base_hash="", family="sd1", prompt="sks person", identifier="sks", class_noun="person", rank=rank, alpha=alpha,
        components=components, population=len(scores), keys=keys, attributes=(), members=(), files={},
    )  # fmt: skip
    nothing = torch.zeros(0, components)
    space = Space(
        manifest=manifest, mean=mean, std=std, basis=wide.T[:components], variance=scores.var(0), scores=scores,
        labels=torch.zeros(len(scores), 0), vectors=nothing, readers=nothing,
    )  # fmt: skip
    return _with_directions(space, folder / TABLE, known=known) if table else space


def _unknown(known: int, components: int) -> str:
    if known == components:
        return ""
    return f" The identities' coordinates are known for the first {known:,} components only, and 0 beyond."


def _check_orthonormal(columns: Tensor) -> None:
    product = columns.float().T @ columns.float()
    if float((product - torch.eye(len(product))).abs().max()) > 1e-2:
        raise ValueError(
            "V.pt does not hold orthonormal columns, so it is not a basis of a space; download it again."
        )


def _with_directions(space: Space, path: Path, *, known: int) -> Space:
    values, names, rows = read_table(path)
    if len(values) != space.manifest.population:
        raise ValueError(
            f"{TABLE} describes {len(values)} identities and proj_1000pc.pt {space.manifest.population}; use files of "
            "one space."
        )
    labels = torch.from_numpy(values)
    words = [(name, label := name.replace("_", " "), f"not {label.lower()}", label.lower()) for name in names]
    found: Directions = fit_directions(
        space.scores[:, :known], labels, words, vector="least squares", only_least_squares=True
    )
    wider = (0, space.manifest.components - known)
    return replace(
        space,
        manifest=replace(space.manifest, attributes=found.attributes, members=rows),
        labels=labels,
        vectors=torch.nn.functional.pad(found.vectors, wider),
        readers=torch.nn.functional.pad(found.readers, wider),
    )


def main() -> None:
    """Convert and write the space to the user's folder of spaces, or to ``--out``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", required=True, help=f"a folder with the authors' files, or {REPOSITORY}")
    parser.add_argument(
        "--out", type=Path, help="write it here (default: where Atelier looks for your own spaces)"
    )
    parser.add_argument("--name", default="w2w-faces")
    parser.add_argument(
        "--components", type=int, default=1000, help="leading principal components to keep, up to 10000"
    )
    parser.add_argument("--float32", action="store_true", help="keep V in float32 (twice the size)")
    parser.add_argument(
        "--read-pickled-table", action="store_true", help="run the code in identity_df.pt to read labels"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    source = Path(args.source)
    if not source.is_dir() and args.source == REPOSITORY:
        from huggingface_hub import snapshot_download

        wanted = [
            f"files/{name}"
            for name in (*FILES, "adapter_config.json", *([TABLE] if args.read_pickled_table else []))
        ]
        source = Path(snapshot_download(REPOSITORY, allow_patterns=wanted))
    space = converted(source, name=args.name, components=args.components, table=args.read_pickled_table)
    folder = space.write(
        args.out or own_spaces(),
        basis_dtype=torch.float32 if args.float32 else torch.float16,
        max_bytes=2**28,
    )
    log.info("%s: %d components of %d weights", folder, space.manifest.components, space.manifest.size)


if __name__ == "__main__":
    main()
