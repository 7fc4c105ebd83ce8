"""The benchmark of several subjects: who is found on which side, and the ratios that it reports."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bench import multi_subject as bench
from bench.pairs import Pair, alone_right, both_found, make_pair, true_pictures
from pipelines.evaluation.embedded_encoders import Instruments
from pipelines.evaluation.metrics import Encoders, load_encoders


@pytest.fixture(scope="module")
def encoders() -> Encoders:
    found = load_encoders("embedded")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def pair(encoders: Encoders, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair("person", 10_001_101, folder=tmp_path_factory.mktemp("pair"), encoders=encoders)


def test_renders_of_both_are_found_and_one_person_twice_is_not(pair: Pair, encoders: Encoders) -> None:
    reader = Instruments()
    right = true_pictures(pair, 6)
    doubled = []
    for picture in right:
        half = picture.crop((0, 0, 64, 128))
        both = Image.new("RGB", (128, 128))
        both.paste(half, (0, 0))
        both.paste(half.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (64, 0))
        doubled.append(both)
    by_encoder, by_reader = both_found(right, pair, encoders=encoders, reader=reader)
    assert sum(by_encoder) >= 5
    assert sum(by_reader) >= 3
    for found in both_found(doubled, pair, encoders=encoders, reader=reader):
        assert sum(found) <= 1
    photos = [[Image.open(one.photo_paths[0])] for one in pair.photographs]
    assert alone_right(photos, pair, encoders=encoders) == [True, True]
    assert alone_right(photos[::-1], pair, encoders=encoders) == [False, False]


def test_each_setting_is_a_run_of_its_own(pair: Pair) -> None:
    joint, mixed, full = (
        bench.config_of("spectral", "steps=20,warmup_steps=1", name) for name in bench.VARIANTS
    )
    assert (joint.mix_probability, mixed.unmix_weight, full.steps, full.sample_every) == (0.0, 0.0, 20, 20)
    assert mixed.mix_probability == full.mix_probability > 0
    names = {bench.run_name(pair, config) for config in (joint, mixed, full)}
    assert len(names) == 3
    assert bench.run_name(pair, bench.config_of("spectral", "steps=20,warmup_steps=1", "joint")) in names
    assert {bench.config_of(name, "", "Cut-Mix-Unmix").weights for name in bench.PRESETS} == set(
        bench.PRESETS
    )


def test_the_ratios_compare_the_three_variants() -> None:
    full = bench.Row("a", "lora", "Cut-Mix-Unmix", "", 0.25, 0.5, 0.9, 0.1, 0.06, 90.0)
    mixed = replace(full, variant="Cut-Mix", failed=0.5, leakage=0.4, own=0.05)
    joint = replace(full, variant="joint", failed=0.75, unread=1.0, leakage=0.5)
    assert bench.verdicts([full, mixed]) == []
    (line,) = bench.verdicts([joint, mixed, full])
    assert "identity encoder 0.25 of 0.75 (+50 points), reader 0.50 of 1.00 (+50 points)" in line
    assert "Leakage 0.25 x that without Unmix" in line
    assert "own region 1.20 x" in line
    other = replace(full, pair="b", failed=0.75)
    assert bench.summary([full, other])["lora Cut-Mix-Unmix"]["failed"] == 0.5


def test_strips_become_one_sheet(tmp_path: Path) -> None:
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    for path, count in zip(paths, (3, 5), strict=True):
        bench.strip([Image.new("RGB", (128, 128), "red")] * count).save(path)
    assert bench.sheet(paths).size == (640, 256)
