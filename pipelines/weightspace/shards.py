"""A population on disk: shards of training data in, shards of weights out, each trained independently.

    population.json                    settings, base, prompts, attribute names; the same for all shards
    people-<i>.safetensors             mean, logvar (n·P, 4, h, w) float16; labels (n, K); names in the header
    class_images.safetensors           mean, logvar of the class images, with prior preservation only
    weights-<i>.safetensors            theta (n, d) float32, with the key of everything that it depends on

A shard of weights is written when it is whole, under its final name. A shard that is there with the right key is not
trained again, so that a run can be stopped, repeated and continued at any time.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipelines.adapters.core import read_tensors, save_tensors
from pipelines.config import LoopConfig, from_dict, to_dict
from pipelines.data.photographs import Moments
from pipelines.files import write_json
from pipelines.weightspace.index import Key, sha256
from pipelines.weightspace.population import (
    Identities,
    OnStep,
    PopulationConfig,
    space_keys,
    train_identities,
)

if TYPE_CHECKING:
    from pipelines.models.base import Base

FORMAT = 1
SETTINGS = "population.json"
CLASS_IMAGES = "class_images.safetensors"


@dataclass(frozen=True)
class Population:
    """A folder of shards and the settings that all of them share."""

    folder: Path
    config: PopulationConfig
    base: str  # what load_base takes
    base_hash: str
    prompts: tuple[str, ...]
    attributes: tuple[str, ...]
    keys: tuple[Key, ...]

    @classmethod
    def create(
        cls, folder: Path, base: "Base", config: PopulationConfig, *, prompts: Sequence[str], attributes: Sequence[str] = ()
    ) -> "Population":  # fmt: skip
        """Write the settings, or open the folder if it has the same ones. Raises ValueError if they differ."""
        wanted = cls(
            folder,
            config,
            base.spec,
            base.hash,
            tuple(prompts),
            tuple(attributes),
            space_keys(base.unet, config),
        )
        if (folder / SETTINGS).is_file():
            found = cls.open(folder)
            differing = [
                field.name
                for field in fields(cls)
                if getattr(found, field.name) != getattr(wanted, field.name)
            ]
            if differing:
                raise ValueError(
                    f"The population in {folder.name!r} was begun with other settings ({', '.join(differing)}); "
                    "continue it with its own settings, or choose an empty folder."
                )
            return found
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SETTINGS, wanted._json())
        return wanted

    @classmethod
    def open(cls, folder: Path) -> "Population":
        """Read a population's settings. Raises ValueError if there are none."""
        try:
            told = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            config = dict(told["config"])
            config["loop"] = from_dict(LoopConfig, config["loop"])
            keys = tuple(Key(name, tuple(shape), offset) for name, shape, offset in told["keys"])
            lists = {name: tuple(told[name]) for name in ("prompts", "attributes")}
            return cls(
                folder=folder, config=PopulationConfig(**config), base=told["base"], base_hash=told["base_hash"],
                keys=keys, **lists,
            )  # fmt: skip
        except FileNotFoundError:
            raise ValueError(
                f"There is no population in {folder.name!r}: {SETTINGS} is missing; build one first."
            ) from None
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{SETTINGS} in {folder.name!r} does not describe a population ({error!r}); build it again."
            ) from error

    @property
    def size(self) -> int:
        """d: the number of weights of one identity."""
        return self.keys[-1].offset + self.keys[-1].size

    def write_people(self, shard: int, moments: Moments, labels: np.ndarray, names: Sequence[str]) -> None:
        """Write the training data of a shard: ``labels`` (n, K) in [0, 1] or NaN, and a name for each identity."""
        assert len(moments) == len(names) * len(self.prompts)
        assert labels.shape == (len(names), len(self.attributes))
        save_tensors(
            self.people_path(shard),
            {
                "mean": moments.mean.half(), "logvar": moments.logvar.half(),
                "labels": torch.from_numpy(np.ascontiguousarray(labels, dtype=np.float32)),
            },
            metadata={"names": json.dumps(list(names))},
        )  # fmt: skip

    def write_class_images(self, moments: Moments) -> None:
        save_tensors(
            self.folder / CLASS_IMAGES,
            {"mean": moments.mean.half(), "logvar": moments.logvar.half()},
            metadata={},
        )

    def people_path(self, shard: int) -> Path:
        return self.folder / f"people-{shard:05d}.safetensors"

    def weights_path(self, shard: int) -> Path:
        return self.folder / f"weights-{shard:05d}.safetensors"

    def shards(self) -> list[int]:
        """Return the numbers of all shards that have training data."""
        return sorted(int(path.stem.partition("-")[2]) for path in self.folder.glob("people-*.safetensors"))

    def key(self, shard: int) -> str:
        """Return a hash of everything that a shard's weights depend on."""
        told = {**self._json(), "people": sha256(self.people_path(shard))}
        told.pop("base")  # where the base lies does not matter, its hash does
        if self.config.prior_weight:
            told["class_images"] = sha256(self.folder / CLASS_IMAGES)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def pending(self) -> list[int]:
        """Return the shards whose weights are missing, damaged, or depend on something that has changed."""
        return [shard for shard in self.shards() if not self._is_done(shard)]

    def _is_done(self, shard: int) -> bool:
        try:
            with safe_open(self.weights_path(shard), framework="pt") as file:
                return (file.metadata() or {}).get("key") == self.key(shard)
        except (SafetensorError, OSError):
            return False

    def inputs(self, shard: int) -> "ShardInputs":
        """Return everything that training a shard needs, besides the base."""
        tensors, _ = read_tensors(self.people_path(shard))
        prior, _ = read_tensors(self.folder / CLASS_IMAGES) if self.config.prior_weight else ({}, {})
        return ShardInputs(
            config=self.config, base_hash=self.base_hash, prompts=self.prompts,
            tensors={"mean": tensors["mean"], "logvar": tensors["logvar"]}, prior=prior,
        )  # fmt: skip

    def write_weights(self, shard: int, theta: Tensor) -> None:
        """Write the weights of a shard atomically."""
        save_tensors(self.weights_path(shard), {"theta": theta}, metadata={"key": self.key(shard)})

    def labels(self) -> Tensor:
        """Return the attributes of all identities, (N, K), in the order of the shards."""
        return torch.cat([read_tensors(self.people_path(shard))[0]["labels"] for shard in self.shards()])

    def names(self) -> tuple[str, ...]:
        """Return the names of all identities in the order of the shards."""
        found: list[str] = []
        for shard in self.shards():
            with safe_open(self.people_path(shard), framework="pt") as file:
                found += json.loads((file.metadata() or {})["names"])
        return tuple(found)

    def weights(self) -> "WeightRows":
        """Return the weights of all identities, memory-mapped. Raises ValueError if shards are missing."""
        if pending := self.pending():
            raise ValueError(
                f"{len(pending)} of {len(self.shards())} shards of the population have no weights yet; train it to the "
                "end first."
            )
        return WeightRows([self.weights_path(shard) for shard in self.shards()], size=self.size)

    def _json(self) -> dict[str, Any]:
        config = {**{field.name: getattr(self.config, field.name) for field in fields(self.config)}}
        config["loop"] = to_dict(self.config.loop)
        told = {"format": FORMAT, **{name: value for name, value in asdict(self).items() if name != "folder"}}
        return {**told, "config": config}


@dataclass(frozen=True)
class ShardInputs:
    """The work of one shard, in a form that can be sent to another process or machine."""

    config: PopulationConfig
    base_hash: str
    prompts: tuple[str, ...]
    tensors: dict[str, Tensor]
    prior: dict[str, Tensor]


def train_shard(base: "Base", inputs: ShardInputs, *, on_step: OnStep | None = None) -> Tensor:
    """Train one shard on one thread; return θ (n, d). The same inputs give the same bits on the same kind of machine."""
    if base.hash != inputs.base_hash:
        raise ValueError(
            f"The population belongs to the base {inputs.base_hash[:12]} and this is {base.hash[:12]}; load the base it "
            "was begun with."
        )
    identities = Identities(_moments(inputs.tensors), inputs.prompts)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train_identities(
            base,
            identities,
            inputs.config,
            prior=_moments(inputs.prior) if inputs.prior else None,
            on_step=on_step,
        )
    finally:
        torch.set_num_threads(threads)


def _moments(tensors: dict[str, Tensor]) -> Moments:
    return Moments(mean=tensors["mean"].float(), logvar=tensors["logvar"].float())


class WeightRows:
    """The rows (N, d) of several shards, read from memory-mapped files: blocks of rows, or columns of all rows."""

    def __init__(self, paths: Sequence[Path], *, size: int) -> None:
        self.paths, self.size = list(paths), size
        self.counts = []
        for path in self.paths:
            with safe_open(path, framework="pt") as file:
                rows, width = file.get_slice("theta").get_shape()
            if width != size:
                raise ValueError(
                    f"{path.name} has rows of {width} weights instead of {size}; train the shard again."
                )
            self.counts.append(rows)

    def __len__(self) -> int:
        return sum(self.counts)

    def blocks(self) -> Iterator[Tensor]:
        """Yield the rows shard by shard, (n, d) float32."""
        for path in self.paths:
            with safe_open(path, framework="pt") as file:
                yield file.get_tensor("theta")

    def columns(self, first: int, last: int) -> Tensor:
        """Return the coordinates ``first`` to ``last`` of all rows, (N, last − first) float32."""
        parts = []
        for path in self.paths:
            with safe_open(path, framework="pt") as file:
                parts.append(file.get_slice("theta")[:, first:last])
        return torch.cat(parts)
