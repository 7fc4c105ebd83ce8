"""Make the recorded experiment that the page Compare shows first: ``python -m recipes.make_experiment``.

"Which method?" on the photographs of one shipped example. Only what the page shows is kept: the scores, and the first
picture of each prompt as WebP. Rerun it when the base, the examples or the presets change.
"""

import argparse
import logging
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from PIL import Image

from pipelines.experiments.settings import SUBJECT, MethodsConfig
from pipelines.experiments.store import SHIPPED, SHIPPED_PREFIX, Experiment
from pipelines.jobs.model_cache import ModelCache
from pipelines.models.inspection import EMBEDDED
from pipelines.studio import Studio

log = logging.getLogger(__name__)

EXAMPLE = "florence"
PROMPTS = tuple(f"a photo of a {SUBJECT}{place}" for place in ("", " on the beach", " in the library"))
CONFIG = MethodsConfig(prompts=PROMPTS, seeds=2, snapshots=1)
TRIAL = replace(CONFIG, steps=2, sample_steps=1)
QUALITY = 82  # of the WebP files: about 3 kB each
POLL_S = 0.5


def measure(studio: Studio, config: MethodsConfig) -> Experiment:
    """Train every method on the example, measure all rows, and return the experiment. Raises ValueError if a row failed."""
    example = next(each for each in studio.library.examples() if each["name"] == EXAMPLE)
    made = studio.experiments.start(
        "methods",
        config,
        example["photos"],
        class_noun=example["class_noun"],
        identifier=example["identifier"],
        name=example["title"],
    )
    while (status := studio.experiments.status(made))["state"] == "running":
        time.sleep(POLL_S)
    failed = [row for row in status["rows"] if row["state"] != "done"]
    if failed:
        raise ValueError(f"{failed[0]['label']} is {failed[0]['state']}: {failed[0]['message']}")
    for text in status["sentences"]:
        log.info("%s", text)
    return studio.experiments.store.get(made)


def ship(experiment: Experiment, out: Path) -> Path:
    """Write what the page shows of an experiment below ``out``; return its folder."""
    folder = out / f"{SHIPPED_PREFIX}{experiment.kind}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "pictures").mkdir(parents=True)
    runs = [replace(run, run="") for run in experiment.runs]
    shipped = replace(
        experiment, path=folder, runs=runs, captions={}, owner="", base={"spec": EMBEDDED, "family": EMBEDDED}
    )
    for row, step in experiment.points():
        found = experiment.scores(row.key, step)
        assert found is not None, "all rows are measured"
        kept = []
        for place, line in enumerate(found["pictures"] if not step else []):
            name = f"pictures/{row.key}-{place}.webp"
            with Image.open(experiment.path / line[0]) as picture:
                picture.convert("RGB").save(folder / name, quality=QUALITY, method=6)
            kept.append([name])
        shipped.keep_scores(row.key, step, {**found, "pictures": kept})
    shipped.save()
    return folder


def make(out: Path, config: MethodsConfig = CONFIG, *, model_cache: ModelCache | None = None) -> Path:
    """Measure the experiment and write it below ``out``; return its folder."""
    with tempfile.TemporaryDirectory(prefix="atelier-experiment-") as scratch:
        studio = Studio(Path(scratch) / "data", model_cache=model_cache)
        try:
            return ship(measure(studio, config), out)
        finally:
            studio.close()


def main() -> None:
    """Parse the command line and make the recorded experiment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    parser.add_argument("--steps", type=int, default=0, help="of every training (default: as in the presets)")
    parser.add_argument("--sample-steps", type=int, default=CONFIG.sample_steps)
    parser.add_argument("--trial", action="store_true", help="two steps only, to try the recipe out")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = replace(CONFIG, steps=chosen.steps, sample_steps=chosen.sample_steps)
    folder = make(chosen.out, TRIAL if chosen.trial else config)
    log.info("%s: %.0f kB", folder, sum(path.stat().st_size for path in folder.rglob("*.*")) / 1000)


if __name__ == "__main__":
    main()
