"""What a run costs follows from the shapes of the base's weights."""

import json
import struct
from functools import partial
from pathlib import Path

import pytest

from pipelines.config import (
    BlockLoRAConfig,
    DreamBoothConfig,
    SVDiffConfig,
    TextualInversionConfig,
    TrainConfig,
)
from pipelines.models.inspection import family_shapes, weight_shapes
from pipelines.runs.costs import SIZES, Size, trained_values
from recipes.make_sd1_shapes import shapes


def write_header(path: Path, named: dict[str, tuple[int, ...]]) -> None:
    """Write a safetensors file that has the names and shapes of weights, and no data."""
    entries = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in named.items()
    }
    raw = json.dumps(entries).encode()
    path.parent.mkdir(parents=True)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)


@pytest.fixture(scope="module")
def twice_as_wide(tmp_path_factory: pytest.TempPathFactory) -> Size:
    """The embedded base with every input and every output twice as wide, from headers alone."""
    folder = tmp_path_factory.mktemp("wide")
    files = {"unet": "diffusion_pytorch_model", "text_encoder": "model"}
    for part, stem in files.items():
        wide = {
            name.removeprefix(f"{part}."): (*(2 * width for width in shape[:2]), *shape[2:])
            for name, shape in family_shapes("embedded").items()
            if name.startswith(f"{part}.")
        }
        write_header(folder / part / f"{stem}.safetensors", wide)
    return Size(128, weights_mb=600, activations_mb=60, shapes=partial(weight_shapes, str(folder)))


@pytest.mark.parametrize(
    "config",
    [
        DreamBoothConfig(text_encoder=True),
        DreamBoothConfig(targets="attention+conv"),
        BlockLoRAConfig(ranks="5,0,2,1,3,0,4,1,2", text_encoder=True),
        SVDiffConfig(text_encoder=True),
        SVDiffConfig(subset="UNet-1D"),
        TextualInversionConfig(),
    ],
    ids=["lora", "lora+conv", "blocks", "spectral", "norms", "token"],
)
def test_a_base_twice_as_wide_trains_twice_as_many_values(config: TrainConfig, twice_as_wide: Size) -> None:
    told = trained_values(config, size=SIZES["embedded"])
    assert trained_values(config, size=twice_as_wide) == pytest.approx(2 * told, rel=1e-12)


def test_a_base_twice_as_wide_has_four_times_the_weights(twice_as_wide: Size) -> None:
    one_dimensional = sum(
        shape[0]
        for name, shape in family_shapes("embedded").items()
        if name.startswith("unet.") and not shape[1:]
    )
    expected = 4 * SIZES["embedded"].unet_values - 2e-6 * one_dimensional
    assert twice_as_wide.unet_values == pytest.approx(expected, rel=1e-12)
    few = SVDiffConfig(subset="UNet-CA-KV", singular_values="1")
    assert trained_values(few, size=twice_as_wide) == trained_values(few, size=SIZES["embedded"])
    assert few.decomposition_mb(twice_as_wide) == pytest.approx(
        4 * few.decomposition_mb(SIZES["embedded"]), rel=0.01
    )


def test_vectors_of_a_subset_are_those_of_its_matrices() -> None:
    size = SIZES["sd1"]
    assert SVDiffConfig(subset="UNet-1D").decomposition_mb(size) == 0
    subset, whole, both = (
        SVDiffConfig(subset=subset, text_encoder=text).decomposition_mb(size)
        for subset, text in (("UNet-CA", False), ("UNet", False), ("UNet", True))
    )
    assert 0 < subset < whole < both
    parts = (size.factors_mb[name] for name in ("UNet-1D", "UNet-2D", "UNet-4D"))
    assert whole == pytest.approx(sum(parts))


def test_the_shipped_shapes_are_those_of_the_shipped_configurations() -> None:
    made = {
        f"{part}.{name}": tuple(shape) for part, named in shapes().items() for name, shape in named.items()
    }
    assert family_shapes("sd1") == made
    assert SIZES["sd1"].unet_values == 859.520964
