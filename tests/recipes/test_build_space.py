"""The recipe of the shipped space: people whose attributes are known, one command from nothing to a space and its card."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.weightspace.index import listed
from pipelines.weightspace.space import Space
from recipes import build_space
from recipes.person_look import PARAMS
from recipes.space_people import TRAITS, VIEWS, identity_of, portrait, prompts, stages, traits_of
from recipes.world import Subject


def person(**changed: str | float) -> Subject:
    """Return a person with the first choice of everything and the middle of every scale, except for ``changed``."""
    identity = {param.name: 0.0 if param.values else 0.5 for param in PARAMS}
    for name, value in changed.items():
        param = next(param for param in PARAMS if param.name == name.replace("_", " "))
        identity[param.name] = float(param.values.index(value)) if param.values else float(value)
    return Subject("person", identity)


def test_traits_are_read_from_the_drawing() -> None:
    names = [trait.name for trait in TRAITS]
    found = dict(
        zip(
            names,
            traits_of(person(glasses="sunglasses", beard="goatee", hair_style="afro", age=0.9)),
            strict=True,
        )
    )
    assert (found["glasses"], found["sunglasses"], found["beard"], found["curls"], found["age"]) == (
        1,
        1,
        1,
        1,
        0.9,
    )
    assert found["hair length"] == 0.5
    bald = dict(zip(names, traits_of(person(hair_style="bald")), strict=True))
    assert bald["bald"] == 1
    assert math.isnan(bald["hair colour"])  # no hair, no beard: it cannot be seen
    assert math.isnan(found["eye size"])  # behind sunglasses


def test_identities_are_fixed_and_differ() -> None:
    assert identity_of(3) == identity_of(3)
    assert identity_of(3) != identity_of(4)
    assert identity_of(3) != identity_of(3, stream=15)


def test_two_people_are_drawn_in_the_same_views() -> None:
    views = stages(2)
    assert [stage.scene for stage in views] == ["beach", "forest"]
    one, two = (
        np.asarray(portrait(person(hair_style="bald", skin_tone=tone), views[0])) for tone in (0.0, 1.0)
    )
    assert (one[:20] == two[:20]).all()  # the scene above the head
    assert (one != two).any()
    assert prompts("sks person", views)[0] == "a photo of a sks person on the beach"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("space")
    line = [
        "build_space",
        "--home",
        str(home / "population"),
        "--out",
        str(home / "index"),
        "--identities",
        "6",
    ]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [*line, "--steps", "5", "--components", "3"])
        build_space.main()
    return home


def test_one_command_builds_a_space(built: Path) -> None:
    (entry,) = listed([built / "index"])
    space = Space.open(entry.folder)
    told = space.manifest
    assert (told.name, told.population, told.components, told.rank) == ("faces", 6, 3, 1)
    assert [attribute.name for attribute in told.attributes] == [trait.name for trait in TRAITS]
    assert space.labels.shape == (6, len(TRAITS))
    assert told.members == tuple(f"14/{number}" for number in range(6))
    assert float(space.scores.std(0).min()) > 0
    assert max(path.stat().st_size for path in entry.folder.iterdir()) < 10_000_000


def test_the_card_has_its_figures(built: Path) -> None:
    text = (built / "index" / "faces" / "README.md").read_text()
    assert "6 identities" in text
    assert f"{VIEWS} pictures, 5 steps" in text
    assert "| 3 | " in text
    for trait in TRAITS:
        assert f"| {trait.label} | {trait.low} | {trait.high} |" in text


def test_a_finished_stage_is_not_repeated(built: Path, base: object) -> None:
    from pipelines.weightspace.shards import Population

    population = Population.open(next((built / "population").iterdir()))
    before = population.people_path(0).stat().st_mtime_ns
    build_space.draw_people(population, base, 6)  # type: ignore[arg-type]
    assert population.people_path(0).stat().st_mtime_ns == before
    assert population.pending() == []
