"""bench.space_identity: settings from the command line, and scores that know the person."""

import pytest

from bench.space_identity import changed, people, score
from pipelines.evaluation.embedded_encoders import Instruments
from pipelines.evaluation.metrics import load_encoders
from recipes.build_space import EMBEDDED


def test_settings_are_changed_by_name() -> None:
    config = changed("steps=7,learning_rate=0.05,targets=attention,alpha=2")
    assert (config.loop.steps, config.loop.learning_rate, config.targets, config.alpha) == (
        7,
        0.05,
        "attention",
        2.0,
    )
    assert changed("") == EMBEDDED
    with pytest.raises(SystemExit, match="no setting 'speed'"):
        changed("speed=3")


def test_the_drawn_person_scores_above_another_person() -> None:
    encoders, reader = load_encoders("embedded"), Instruments()
    one, two = people(2)
    own, other = (score(one, person.asked, encoders, reader) for person in (one, two))
    assert own.similarity.shape == own.attributes.shape == (len(one.asked),)
    assert float(own.similarity.mean()) > float(other.similarity.mean()) + 0.2
    assert float(own.attributes.mean()) > 0.8 > float(other.attributes.mean())
