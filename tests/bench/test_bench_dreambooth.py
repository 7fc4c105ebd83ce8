"""The DreamBooth benchmark: subjects, scenes, timing and text output, tested with a Studio that does not train."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from bench import dreambooth as bench
from bench.sweep import candidate
from pipelines.config import DreamBoothConfig, SampleConfig
from pipelines.data.photographs import to_tensor
from pipelines.evaluation.metrics import Encoders
from pipelines.methods.specs import METHODS
from recipes import world
from recipes.captions import SCENE_PHRASES


class ThumbnailEncoder:
    """Encode a picture as its 4x4 thumbnail, and a text as the mean thumbnail of the scene that it names."""

    name = "thumbnails"
    scale = 1.0

    def __init__(self) -> None:
        self.scenes = {}
        for index, scene in enumerate(world.SCENES):
            rng = np.random.default_rng(index)
            views = [
                world.draw(world.sample_picture(rng, world.Choice(kind="teapot", scene=scene)))
                for _ in range(2)
            ]
            self.scenes[scene] = self.image_features(views).mean(0)

    def image_features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return F.normalize(self.layers(images)[0].flatten(1), dim=-1)

    def text_features(self, texts: Sequence[str]) -> torch.Tensor | None:
        named = [next(s for s in world.SCENES if SCENE_PHRASES[s][0] in text) for text in texts]
        return F.normalize(torch.stack([self.scenes[scene] for scene in named]), dim=-1)

    def layers(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        return [F.adaptive_avg_pool2d(to_tensor(images), 4).flatten(2)]


class ScriptedStudio:
    """A Studio whose runs finish at once. It returns a prepared picture for each prompt, or noise if there is none."""

    def __init__(self, folder: Path, events: list[dict]) -> None:
        self.training = self.generation = self
        self.folder, self.events = folder, events
        self.configs: list[DreamBoothConfig] = []
        self.prompts: list[str] = []

    def start(self, method: str, config: DreamBoothConfig, photo_paths: list[Path], *, name: str = "") -> str:
        assert type(config) is METHODS[method].config
        assert len(photo_paths) == bench.PHOTOS
        self.configs.append(config)
        return f"run-{len(self.configs)}"

    def status(self, run_id: str) -> dict:
        return {"state": "done", "error": "", "events": self.events}

    def generate(self, config: SampleConfig, *, run_id: str | None = None) -> list[Path]:
        self.prompts.append(config.prompt)
        paths = []
        for index in range(config.count):
            levels = np.random.default_rng(len(self.prompts) * 100 + index).integers(
                0, 255, (128, 128, 3), np.uint8
            )
            paths.append(self.folder / f"{len(self.prompts)}-{index}.png")
            Image.fromarray(levels).save(paths[-1])
        return paths


EVENTS = [
    {"kind": "stage", "t": 100.0, "name": "Loading the base"},
    {"kind": "stage", "t": 101.0, "name": bench.CLASS_STAGE},
    {"kind": "stage", "t": 104.0, "name": bench.CLASS_STAGE},
    {"kind": "sample", "t": 105.0, "label": "before"},
    {"kind": "step", "t": 106.0, "seconds": 0.1},
    {"kind": "step", "t": 107.0, "seconds": 0.3},
    {"kind": "sample", "t": 110.0, "label": "after"},
    {"kind": "sample", "t": 111.0, "label": "after"},
]


@pytest.fixture(scope="module")
def encoders() -> Encoders:
    thumbnails = ThumbnailEncoder()
    return Encoders(clip=thumbnails, identity=thumbnails)


@pytest.fixture(scope="module")
def case(encoders: Encoders, tmp_path_factory: pytest.TempPathFactory) -> bench.Case:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "DISTRACTORS", 3)
        patch.setattr(bench, "RENDERS", 2)
        folder = tmp_path_factory.mktemp("case") / "photos"
        return bench.make_case("dog", world.HELD_OUT_FROM + 1, folder=folder, encoders=encoders)


def test_case_is_held_out_and_asks_for_scenes_it_did_not_show(case: bench.Case) -> None:
    assert len(case.photos) == bench.PHOTOS
    assert len(set(case.scenes)) == bench.SCENES_ASKED
    assert case.lineup.shape == (4, 48)
    torch.testing.assert_close(case.lineup.norm(dim=1), torch.ones(4))
    assert all(world.split(seed) == "held out" for _, seed in bench.SUBJECTS)
    assert [kind for kind, _ in bench.SUBJECTS].count("person") == 4


def test_clock_keeps_class_images_apart() -> None:
    trained = bench.clock("r", EVENTS, clicked=99.0)
    assert (trained.final_sample_s, trained.class_images_s, trained.step_s) == pytest.approx((9.0, 3.0, 0.2))


def test_retrieval_counts_only_the_true_subject(encoders: Encoders, case: bench.Case) -> None:
    pictures = [case.renders[0], case.renders[1]]
    rows = encoders.identity.image_features(pictures)
    assert bench.retrieved(pictures, rows, encoders) == 0.5


def test_scene_is_judged_over_all_ten(encoders: Encoders) -> None:
    rng = np.random.default_rng(3)
    teapot = world.Choice(kind="teapot", scene="forest", style="photo")
    pictures = [world.draw(world.sample_picture(rng, teapot)) for _ in range(12)]
    right = bench.scene_right(pictures, ["forest"] * 12, encoders, noun="teapot")
    wrong = bench.scene_right(pictures, ["beach"] * 12, encoders, noun="teapot")
    assert right > wrong


@pytest.mark.parametrize("kind", ["person", "dog"])
def test_control_words_are_true_and_few(kind: str) -> None:
    for seed in range(40):
        subject = world.sample_subject(np.random.default_rng(seed), kind)
        words = bench.in_words(subject)
        assert kind in words.split()
        assert len(words.split()) <= 20
        assert words.count(",") <= 1


def test_control_words_name_what_tells_most() -> None:
    subject = world.sample_subject(np.random.default_rng(0), "dog")
    assert world.attributes(subject)["coat"] in bench.in_words(subject)


def test_whole_bench_on_a_scripted_studio(case: bench.Case, encoders: Encoders, tmp_path: Path) -> None:
    studio = ScriptedStudio(tmp_path, EVENTS)
    ask = bench.Asker(studio=studio, seeds=2, guidance_scale=4.0)  # type: ignore[arg-type]
    found, row = bench.bench_case(
        case, DreamBoothConfig(prior_preservation=True), ask=ask, encoders=encoders, parts=bench.PARTS
    )
    asked = [(config.class_noun, config.prior_preservation) for config in studio.configs]
    assert asked == [("dog", True), ("dog", False), ("tower", False), ("", False)]
    assert f"a photo of a sks dog {SCENE_PHRASES[case.scenes[0]][0]}" in studio.prompts
    assert f"a photo of a sks {SCENE_PHRASES[case.scenes[0]][0]}" in studio.prompts
    assert len(row) == bench.PHOTOS + 2 * bench.SCENES_ASKED
    assert found["described as"] == bench.in_words(case.subject)
    whole = bench.summary([found, found])
    assert whole["prior"].keys() == {"untouched base", "with", "without"}
    assert whole["noun"].keys() == {"right", "wrong", "none"}
    assert json.loads(json.dumps(whole)) == whole
    assert bench.sheet([row]).size == (128 * len(row), 128)
    assert bench.verdict(0.75, bench.TARGETS["svdiff"]["identity retrieved"]).endswith("goal 0.85: floor")
    told = bench.verdicts(whole, method="dreambooth")
    assert "identity retrieved" in told
    assert "BELOW THE FLOOR" in told
    assert "PRES with prior preservation" in told
    assert len(bench.table("class noun", whole["noun"]).splitlines()) == 4


def test_a_candidate_of_the_sweep_is_read_as_numbers_and_words():
    assert candidate("rank=8, learning_rate=0.001,targets=attention+conv,text_encoder=true") == {
        "rank": 8,
        "learning_rate": 0.001,
        "targets": "attention+conv",
        "text_encoder": True,
    }
    assert candidate("") == {}
