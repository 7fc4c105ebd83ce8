"""What a run of several subjects can do, in one set of pictures at one seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.config import SampleConfig
from pipelines.data.subject import stored_subjects
from pipelines.runs.library import EXAMPLE_PREFIX
from pipelines.runs.store import LIVE_STATES
from pipelines.runs.together import Shown, keep, same_but

if TYPE_CHECKING:
    from pipelines.services.generation import GenerationService
    from pipelines.services.resources import Resources

WITHOUT_UNMIX = {"unmix_weight": 0.0}


def draw_together(
    generation: GenerationService,
    run_id: str,
    config: SampleConfig,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Shown]:
    """Generate all pictures of :meth:`GenerationService.together`."""
    resources = generation.resources
    run = resources.library.find(run_id)
    single = replace(config, count=1)
    words = [f"{one.identifier} {one.class_noun}".strip() for one in stored_subjects(run.path, run.config)]
    rival = without_unmix(resources, run_id)
    steps, done = 2 + len(words) + bool(rival), 0

    def told() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps)

    (picture,) = generation.generate(single, run_id=run_id)
    shown = [Shown("together", "Together", picture, single.prompt, single.seed)]
    told()
    if rival:
        (other,) = generation.generate(single, run_id=rival)
        shown.append(Shown("without", "Without Unmix", other, single.prompt, single.seed))
        told()
    for word, path in generation.word_attention(run_id, picture).items():
        shown.append(Shown("attention", word, path, single.prompt, single.seed))
    told()
    for word in words:
        alone = replace(single, prompt=f"a photo of a {word}")
        (path,) = generation.generate(alone, run_id=run_id)
        shown.append(Shown("alone", f"{word}, alone", path, alone.prompt, alone.seed))
        told()
    if not run_id.startswith(EXAMPLE_PREFIX) and run.state not in LIVE_STATES:
        keep(run, shown)
    return shown


def without_unmix(resources: Resources, run_id: str) -> str:
    """Return the id of a finished run that differs from a run only in its Unmix weight of 0; "" if there is none."""
    run = resources.library.find(run_id)
    if not run.config.get("unmix_weight"):
        return ""
    finished = [other for other in resources.store.list() if other.state == "done"]
    rival = same_but(run, finished, **WITHOUT_UNMIX)
    return rival.id if rival is not None else ""
