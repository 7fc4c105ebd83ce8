"""The pretended Studio's library, comparisons and recall: see :class:`fake_studio.FakeStudio`."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from pipelines.config import SampleConfig, from_dict, to_dict
from pipelines.methods.specs import method_config
from pipelines.runs.store import Run, RunStore
from pipelines.sampling.grid import STACK, row_name
from pipelines.sampling.stack import asked_stack


class FakeShelf:
    """What the Library, Compare and the recall of a picture ask for."""

    root: Path
    store: RunStore
    calls: list[tuple[str, Any]]
    _examples: list[dict[str, Any]]

    def _run(self, run_id: str) -> Run:
        return self.store.get(run_id)

    def _shipped(self) -> set[str]:
        return {example["run"] for example in self._examples}

    def list_runs(self, *, shipped: bool = False) -> list[dict[str, Any]]:
        own = [self._row(run) for run in self.store.list()]
        return [row for row in own if not row["shipped"]] + [row for row in own if row["shipped"] and shipped]

    def _row(self, run: Run) -> dict[str, Any]:
        config = run.config
        samples = sorted((run.path / "samples").glob("*.png"))
        return {
            "id": run.id, "name": run.name, "state": run.state, "method": run.method, "created": run.created,
            "thumbnail": str(samples[-1]) if samples else None, "bytes": run.size(), "base": run.base["spec"],
            "trigger": f"{config.get('identifier', '')} {config.get('class_noun', '')}".strip(),
            "base_name": "Embedded base", "notes": run.note, "note": run.note, "seconds": 24.0,
            "identifier": config.get("identifier", ""), "class_noun": config.get("class_noun", ""),
            "trainable": 797_184, "kind": "spectral" if run.method == "svdiff" else "full" if config.get("weights") == "full" else "lora",
            "shipped": run.id in self._shipped(),
        }  # fmt: skip

    def _mine(self, run_id: str) -> Run:
        if run_id in self._shipped():
            raise ValueError("A shipped example cannot be changed; start a run of your own from it.")
        return self._run(run_id)

    def rename(self, run_id: str, name: str) -> None:
        self._mine(run_id)
        self.store.rename(run_id, name)

    def note(self, run_id: str, text: str) -> None:
        self._mine(run_id)
        self.store.note(run_id, text)

    def delete(self, run_id: str) -> None:
        self._mine(run_id)
        self.store.delete(run_id)

    def settings(self, run_id: str) -> dict[str, Any]:
        run = self._run(run_id)
        photos = sorted(path.name for path in (run.path / "photos").glob("*.png"))
        return {
            "atelier": 1, "method": run.method, "name": run.name, "config": run.config, "base": run.base["spec"],
            "photos": photos, "captions": {},
            "command": f"python -m pipelines.cli --settings run.json {' '.join(photos)}",
        }  # fmt: skip

    def read_settings(self, text: str) -> dict[str, Any]:
        try:
            told = json.loads(text)
            config = from_dict(method_config(told["method"]), told["config"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(
                "These are not the settings of a run; choose a run.json saved from the Library."
            ) from None
        return {
            "method": told["method"],
            "config": to_dict(config),
            "base": "embedded",
            "captions": told.get("captions", {}),
            "repeats": told.get("repeats", {}),
            "name": "",
        }

    def recall(self, path: Path) -> dict[str, Any]:
        with Image.open(path) as picture:
            text = picture.info.get("atelier")
        if not text:
            raise ValueError(f"{path.name} carries no settings; drop a PNG that was downloaded here.")
        return json.loads(text)

    def compare(
        self,
        runs: Sequence[str | Sequence[Mapping[str, Any]] | None],
        *,
        across: str,
        values: Sequence[Any],
        config: SampleConfig,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        self.calls.append(("compare", (tuple(runs), across, tuple(values), config)))
        cells, rows = [], []
        for index, asked in enumerate(runs):
            layers = (
                asked_stack(None, run_id=asked)
                if asked is None or isinstance(asked, str)
                else asked_stack(asked)
            )
            run_id = layers[0].run if layers else None
            cells.append([self._cell(run_id, across, value, config) for value in values])
            if progress:
                progress((index + 1) * len(values), len(runs) * len(values))
            row = self._row(self._run(run_id)) if run_id else {}
            likeness = 0.62 if run_id else 0.0
            rows.append({
                "run": run_id, "name": row_name([(self._run(layer.run).name, layer) for layer in layers]),
                "method": STACK if len(layers) > 1 else row.get("method", ""),
                "trainable": row.get("trainable"), "bytes": row.get("bytes"), "seconds": row.get("seconds"),
                "metrics": {
                    "likeness": {"value": likeness, "low": likeness - 0.06, "high": likeness + 0.05},
                    "wording": {"value": 0.8, "low": 0.75, "high": 0.86},
                },
            })  # fmt: skip
        folder = self.root / "grids" / str(time.time_ns())
        folder.mkdir(parents=True)
        (folder / "grid.json").write_text(json.dumps({"rows": rows, "values": list(values)}))
        Image.new("RGB", (128 * len(values), 128 * len(runs)), "#c9643c").save(folder / "grid.png")
        return {"grid": folder / "grid.png", "json": folder / "grid.json", "cells": cells, "rows": rows}

    def _cell(self, run_id: str | None, across: str, value: Any, config: SampleConfig) -> Path:
        asked = replace(config, prompt=str(value)) if across == "prompts" else config
        asked = replace(asked, seed=int(value)) if across == "seeds" else asked
        strength = float(value) if across == "strengths" else 1.0
        return self.draw(asked, run_id=run_id, strength=strength if run_id else 0.0)

    def draw(self, config: SampleConfig, *, run_id: str | None, strength: float) -> Path:
        raise NotImplementedError

    def export(self, run_id: str, format: str, *, rank: int = 16) -> Path:
        raise NotImplementedError

    def verified_export(self, run_id: str, format: str, *, rank: int = 16) -> tuple[Path, str]:
        near = f"; a LoRA of rank {rank}, off by 3.0%" if self._run(run_id).method == "svdiff" else ""
        return self.export(run_id, format, rank=rank), f"128/128 keys, largest difference 0{near}"

    def merge_into_base(
        self, run_id: str, format: str = "diffusers", *, strength: float = 1.0
    ) -> tuple[Path, str]:
        self.calls.append(("merge_into_base", (self._run(run_id).id, format, strength)))
        path = self.root / f"{run_id}-merged.zip"
        path.write_bytes(b"PK")
        return path, "1130/1130 tensors, largest difference 0"

    def views(self, run_id: str) -> list[dict[str, Any]]:
        """As the real Studio tells them: a heat map and bars for shifts, bars for a LoRA."""
        bars = {
            "title": "Where the weights moved",
            "kind": "bars",
            "help": "Length.",
            "values": {"In0": 0.25, "Mid": 1},
        }
        if self._run(run_id).method != "svdiff":
            return [bars]
        cells = [[0.125, None], [0.5, 0.25]]
        return [
            bars | {"kind": "heat", "rows": ["In0", "<b>Mid</b>"], "columns": ["0 %", "50 %"], "cells": cells}, bars
        ]  # fmt: skip

    def shifted_layers(self, run_id: str) -> list[str]:
        return ["unet.conv_in"] if self._run(run_id).method == "svdiff" else []

    def spectrum(self, run_id: str, layer: str, *, strength: float = 1.0) -> dict[str, Any]:
        self.calls.append(("spectrum", layer))
        lines = {"before": [3.0, 2.0, 1.0], "after": [3.5, 2.0, 0.0]}
        return {"title": layer, "kind": "curves", "help": "σ", "lines": lines, "axis": "singular value"}

    def correlation(self, run_ids: list[str]) -> dict[str, Any]:
        names = [self._run(run_id).name for run_id in run_ids]
        cells = [[1.0 if one == other else 0.25 for other in names] for one in names]
        return {
            "title": "Alike",
            "kind": "heat",
            "help": "Cosine.",
            "rows": names,
            "columns": names,
            "cells": cells,
        }

    def inspect_lora(self, path: Path) -> dict[str, Any]:
        if path.suffix != ".safetensors":
            raise ValueError(f"{path.name} is a pickle, which can run any program on this machine.")
        return {
            "keys": 128, "rank": 16, "base": "sd1", "metadata": {"ss_network_dim": "16"}, "format": "kohya",
            "parameters": 797_184, "trigger": "zul dog", "problem": "",
        }  # fmt: skip

    def import_lora(self, path: Path, *, name: str = "", base: str | None = None) -> str:
        if path.suffix != ".safetensors":
            raise ValueError(f"{path.name} is a pickle, which can run any program on this machine.")
        self.calls.append(("import_lora", (path.name, base)))
        return self._bring(name or path.stem, file=path.name)

    def combine(
        self, run_ids: list[str], *, how: str, share: float = 0.5, rank: int = 16, name: str = ""
    ) -> str:
        self.calls.append(("combine", (run_ids, how, share, rank)))
        if how != "truncate" and len(run_ids) < 2:
            raise ValueError(f"To {how} takes 2 runs, not 1.")
        return self._bring(name or how, file=how)

    def load_from_hub(self, repo_id: str) -> str:
        if "/" not in repo_id:
            raise ValueError(f"{repo_id!r} is no Hub id; it looks like someone/something.")
        return self._bring(repo_id.partition("/")[2], file=repo_id)

    def _bring(self, name: str, *, file: str) -> str:
        config = {"identifier": "zul dog", "class_noun": "", "source": "kohya", "file": file}
        base = {"spec": "embedded", "family": "embedded", "hash": "fake"}
        run = self.store.create("import", config, base, name=name)
        run.append("created", method="import", base=base, config=config, photos=0)
        run.append("state", state="done", message="")
        return run.id

    def interrupt(self) -> None:
        self.calls.append(("interrupt", None))
