"""Sequences of concepts: listed, read back, compared with the same sequence without self-regularization."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from pipelines.methods.baselines import BASELINES, baseline
from pipelines.methods.specs import METHODS
from pipelines.runs.library import EXAMPLE_PREFIX
from pipelines.runs.sequences import ConceptPictures, Task, heads, pictures_of, sequence_of
from pipelines.runs.status import Card
from pipelines.runs.store import LIVE_STATES
from pipelines.services.baselines import start_baseline, subject_of
from pipelines.services.library import LibraryService
from pipelines.services.resources import Resources
from pipelines.services.training import TrainingService

WEIGHT = "forgetting_weight"  # the setting of the self-regularization
SUGGESTED = (
    "a photo of {0}. Posing with {1}.",
    "a photo of {0} and {1} on the beach",
    "a photo of {0} in the forest",
)


class SequenceService:
    """Lists the sequences of concepts, reads them back, and trains their counterparts."""

    def __init__(self, resources: Resources, *, training: TrainingService) -> None:
        self.resources = resources
        self.training = training

    def list(self) -> list[Card]:
        """Return the last run of each of the user's sequences, the newest first, and then those that are shipped."""
        library = self.resources.library
        last = [library.card(run) for run in heads(self._own())]
        shipped = library.shipped_sequences().items()
        return last + [
            replace(library.card(run), id=EXAMPLE_PREFIX + name, shipped=True) for name, run in shipped
        ]

    def tasks(self, run_id: str) -> list[Task]:
        """Return the concepts of a sequence up to the one that this run has learned, in order."""
        return sequence_of(run_id, self.resources.library.find)

    def pictures(self, run_id: str) -> list[list[ConceptPictures]]:
        """Return a row per task of a sequence: the pictures of all its concepts then, [] where there are none."""
        return [
            pictures_of(self.resources.library.find(task.run)) if task.run else []
            for task in self.tasks(run_id)
        ]

    def prompts(self, run_id: str) -> list[str]:
        """Return suggested prompts with the trigger words of a sequence, its newest concept first."""
        words = [task.word for task in reversed(self.tasks(run_id))]
        pairs = [(words[place], words[place + 1]) for place in range(min(3, len(words) - 1))]
        together = [template.format(*pair) for pair in pairs for template in SUGGESTED[:2]]
        return [*together, *(SUGGESTED[2].format(word) for word in words[:3])]

    def forgetting(self, run_id: str) -> list[dict[str, Any]]:
        """Return the forgetting matrix of a sequence as charts; [] if nothing was measured."""
        from pipelines.methods.continual_views import forgetting_views

        return [asdict(view) for view in forgetting_views(self.tasks(run_id), self.pictures(run_id))]

    def counterpart(self, run_id: str) -> str:
        """Return the last run of the same sequence without self-regularization, or ""; the sequence itself has none."""
        tasks = self.tasks(run_id)
        if not any(task.weight for task in tasks[1:]):
            return ""
        shared = [task.run for task in tasks[:1]]
        for task in tasks[1:]:
            found = self._without(task, parent=shared[-1])
            if not found:
                return ""
            shared.append(found)
        return shared[-1]

    def start_counterpart(self, run_id: str) -> str:
        """Train the sequence again without self-regularization, from its second concept on; return the last run's id.

        The runs wait for each other in the queue; those that exist are used. It is a measurement: C-LoRA itself never
        reads the photographs of an earlier concept again. Raises ValueError if there is nothing to compare, or if one
        of the sequence's runs was deleted.
        """
        tasks = self.tasks(run_id)
        if len(tasks) < 2 or not any(task.weight for task in tasks[1:]):
            raise ValueError(
                "Without self-regularization this sequence would be the same; add a second concept with it first."
            )
        if gone := next((task for task in tasks if not task.run), None):
            raise ValueError(
                f"The run of {gone.name!r} was deleted, so its concept cannot be trained again; compare another sequence."
            )
        last = tasks[0].run
        for task in tasks[1:]:
            last = self._without(task, parent=last) or self._start_without(task, parent=last)
        return last

    def baselines(self) -> dict[str, str]:
        """Return the label of each baseline that :meth:`start_baseline` knows, by its key."""
        return {key: each.label for key, each in BASELINES.items()}

    def start_baseline(self, run_id: str, key: str) -> list[str]:
        """Train the concepts of a sequence again by another method; return its runs in the order of the concepts.

        The runs wait for each other in the queue; those that exist are used, so calling it again returns the same
        runs. The last run draws all concepts, except for "separate", whose concepts are drawn together as a stack, and
        "merged", which is merged (one more run at the end) when it is called again after its runs have finished.
        Raises ValueError for an unknown baseline, or if one of the sequence's runs was deleted.
        """
        library = LibraryService(self.resources)
        return start_baseline(
            self.tasks(run_id),
            baseline(key),
            resources=self.resources,
            training=self.training,
            merge=library.merge_concepts,
        )

    def _own(self) -> list[Any]:
        methods = {spec.name for spec in METHODS.values() if spec.inputs == "a sequence"}
        return [run for run in self.resources.store.list() if run.method in methods]

    def _without(self, task: Task, *, parent: str) -> str:
        """Return the run of a concept with the same settings but for the weight 0, unless it failed; or ""."""
        wanted = {**self.resources.library.find(task.run).config, WEIGHT: 0.0} if task.run else {}
        shipped = {EXAMPLE_PREFIX + name: run for name, run in self.resources.library.shipped_steps().items()}
        for known, run in {**{run.id: run for run in self._own()}, **shipped}.items():
            same = run.parents[-1:] == [parent] and run.config == wanted
            if same and (run.state in ("done", *LIVE_STATES) or known in shipped):
                return known
        return ""

    def _start_without(self, task: Task, *, parent: str) -> str:
        run = self.resources.library.find(task.run)
        return self.training.start(
            run.method,
            {**run.config, WEIGHT: 0.0},
            subjects=[subject_of(run)],
            base=run.base["spec"],
            parents=[parent],
            after=[] if parent.startswith(EXAMPLE_PREFIX) else [parent],
            name=run.name,
        )
