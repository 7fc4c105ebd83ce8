"""Handlers of the tab Continual. They take widget values by name and return new ones by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.config import SampleConfig, clean_text
from pipelines.data.subject import stored_photos, stored_subjects
from pipelines.methods.specs import method_config, methods_of, preset, preset_names
from pipelines.runs.library import EXAMPLE_PREFIX
from pipelines.runs.sequences import Task
from ui import forms as form
from ui.html import Html, element
from ui.run import method_views
from ui.run import panels as shared
from ui.run.monitor import RunMonitor, Values
from ui.run.state import LIVE
from ui.tabs.continual import panels

METHOD = next(spec.name for spec in methods_of("continual"))
OWN = "continual_"  # prefix of this tab's widget names
FIELDS = [
    *form.own_names(METHOD), "steps", "batch_size", "learning_rate", "schedule", "warmup_steps", "weight_decay",
    "snr_gamma", "seed", "prior_preservation", "class_images", "auto_captions", "mask_background",
    "sample_prompts", "sample_steps",
]  # fmt: skip
NEW = "A new sequence"
EMPTY = "Add a first concept: choose photographs, name it, and press “Add concept”."
UNFINISHED = "The pictures of every concept appear here when this one is finished."
REMOVE, REMOVE_IT = "Remove the last concept …", "Remove it permanently"  # the second press confirms
WITHOUT = "without self-regularization"
SHOWN = ["continual_grid", "continual_matrix", "continual_entries", "continual_prompt", "continual_model",
         "continual_if", "continual_heading", "continual_remove", "continual_export_row", "continual_play_row", "continual_matrix_row", "continual_entries_row"]  # fmt: skip
CARDS = ("play", "matrix", "entries")  # shown from the first finished concept on
SUBJECT = ["continual_source", "continual_name", "continual_noun", "continual_word", "continual_upload"]


class ContinualHandlers:
    """Adds concepts to sequences and shows what the earlier concepts keep; the monitor shows the run."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor
        self.studio = monitor.studio
        self.copies = monitor.copies
        self.examples = monitor.examples
        self.family = next(iter(self.studio.inspection.bases())).family

    # The form

    def sequences(self) -> list[tuple[str, str]]:
        """Return (label, id of the last run) of every sequence, preceded by a new one."""
        return [
            (NEW, ""),
            *((self._label(card.id, shipped=card.shipped), card.id) for card in self.studio.sequences.list()),
        ]

    def _label(self, run_id: str, *, shipped: bool = False) -> str:
        tasks = self.studio.sequences.tasks(run_id)
        plain = len(tasks) > 1 and not any(task.weight for task in tasks[1:])
        return " · ".join(
            filter(None, [panels.progress_of(tasks), "example" if shipped else "", WITHOUT if plain else ""])
        )

    def opening(self) -> str:
        """Return the sequence that the page shows first: a shipped one, else the newest of the user's, else none."""
        ranked = sorted(
            self.studio.sequences.list(),
            key=lambda card: (WITHOUT in self._label(card.id), not card.shipped),
        )
        return ranked[0].id if ranked else ""

    def sources(self) -> list[tuple[str, str]]:
        """Return (label, value) of the available photographs: those of the examples and of the user's own runs."""
        runs = [run for run in self.studio.library.list_runs() if not run.shipped and run.method != METHOD]
        names = self.studio.library.names()
        alone = [run for run in runs if len(stored_subjects(self._path(run.id), {})) == 1]
        offered = [(f"{each['title']} · example", f"example:{name}") for name, each in self.examples.items()]
        return offered + [(names.get(run.id, run.name), f"run:{run.id}") for run in alone]

    def _path(self, run_id: str) -> Path:
        return Path(self.studio.training.status(run_id)["path"])

    def presets(self) -> list[str]:
        """Return the names of the presets, the fastest first."""
        return preset_names(METHOD, self.family)

    def config(self, name: str = "") -> Any:
        """Return the config of a preset; "" is the first one."""
        return preset(METHOD, self.family, name or self.presets()[0])

    def choose_preset(self, continual_preset: str) -> Values:
        """Fill the advanced fields from a preset."""
        values = form.shown(self.config(continual_preset))
        return {OWN + name: values[name] for name in FIELDS}

    def next_subject(self, sequence: str) -> Values:
        """Return the fields of the next concept: the first example that is not in the sequence."""
        names = {task.name.lower() for task in self._tasks(sequence)}
        free = next((name for name, each in self.examples.items() if each["title"].lower() not in names), "")
        return self.choose_source(sequence, f"example:{free}" if free else None)

    def choose_source(self, continual_sequence: str | None, continual_source: str | None) -> Values:
        """Fill in the name, class word and trigger word that belong to the photographs of an example or a run."""
        source = continual_source
        values: Values = {"continual_source": source, "continual_upload": None}
        if not source:
            return values | dict.fromkeys(("continual_name", "continual_noun", "continual_word"), "")
        kind, _, name = source.partition(":")
        if kind == "example":
            title, words = self.examples[name]["title"], self.examples[name]
        else:
            status = self.studio.training.status(name)
            title, words = status["name"], status["config"]
        taken = [task.word for task in self._tasks(continual_sequence)]
        word = str(words.get("identifier", ""))
        return values | {
            "continual_name": title,
            "continual_noun": str(words.get("class_noun", "")),
            "continual_word": "" if word in taken else word,
        }

    def offer_sources(self) -> Values:
        """Update the photographs that can be chosen."""
        return {"continual_source": gr.update(choices=self.sources())}

    def _tasks(self, sequence: str | None) -> list[Task]:
        return self.studio.sequences.tasks(sequence) if sequence else []

    # Changing a sequence

    def start(self, **fields: Any) -> Values:
        """Train the next concept on top of the chosen one, and show the run and its sequence."""
        head = fields["continual_after"] or fields["continual_sequence"] or ""
        photos = self._photos(fields)
        name = clean_text(fields["continual_name"] or "")
        if not photos:
            raise ValueError("There are no photographs of the new concept; choose an example or upload some.")
        if not name:
            raise ValueError("The new concept has no name; enter one.")
        word = clean_text(fields["continual_word"] or "") or self._free_word(head)
        values = form.shown(self.config(fields["continual_preset"])) | {
            name: fields[OWN + name] for name in FIELDS
        }
        words = {"identifier": word, "class_noun": clean_text(fields["continual_noun"] or "")}
        config = form.parse(method_config(METHOD), values | words)
        parents = [head] if head else []
        after = [each for each in parents if self.monitor.at_work(each)]
        run_id = self.studio.training.start(METHOD, config, photos, parents=parents, after=after, name=name)
        return self.monitor.started(run_id, fields.get("shown", "")) | self.choose(run_id)

    def _photos(self, fields: Mapping[str, Any]) -> list[Path]:
        kind, _, name = (fields["continual_source"] or "").partition(":")
        if fields["continual_upload"]:
            return [Path(file) for file in fields["continual_upload"]]
        if kind == "example":
            return list(self.examples[name]["photos"])
        return stored_photos(self._path(name)) if kind == "run" else []

    def _free_word(self, sequence: str) -> str:
        """Return the rarest word that names no concept of the sequence yet."""
        taken = {task.word for task in self._tasks(sequence)}
        found = [each["text"] for each in self.studio.inspection.identifiers()]
        return next(word for word in found if word not in taken)

    def remove(self, continual_sequence: str, continual_remove: str) -> Values:
        """Delete the last run of a sequence, after a second press; the sequence before it is shown."""
        tasks = self._tasks(continual_sequence)
        if not tasks:
            raise ValueError("There is no concept to remove; choose a sequence first.")
        if continual_sequence.startswith(EXAMPLE_PREFIX):
            raise ValueError("A shipped sequence cannot be changed; add your own concepts to it instead.")
        if continual_remove != REMOVE_IT:
            return {"continual_remove": REMOVE_IT}
        self.studio.training.discard(continual_sequence)
        before = tasks[-2].run if len(tasks) > 1 else ""
        return self.show(before)

    def compare(self, continual_sequence: str, shown: str = "") -> Values:
        """Train the sequence without self-regularization and show the run that is trained next."""
        if not continual_sequence:
            raise ValueError("There is nothing to compare yet; add two concepts first.")
        last = self.studio.sequences.start_counterpart(continual_sequence)
        queued = [task.run for task in self._tasks(last) if self.monitor.at_work(task.run)]
        return (self.monitor.started(queued[0], shown) if queued else {}) | self.show(continual_sequence)

    # Showing a sequence

    def open(self, continual_sequence: str | None) -> Values:
        """Show the opening sequence when the tab is selected for the first time; later only update the choices."""
        if continual_sequence is None:
            return self.choose(self.opening())
        return {
            "continual_sequence": gr.update(choices=self._choices(continual_sequence))
        } | self.offer_sources()

    def choose(self, continual_sequence: str) -> Values:
        """Show a sequence and suggest its next concept."""
        return self.show(continual_sequence) | self.next_subject(continual_sequence)

    def watch(self, continual_sequence: str | None, shown: str) -> Values:
        """Show the sequence again after a run of this method has changed; what the user has typed stays."""
        if continual_sequence is None or not self._concerns(shown):
            return {}
        known = {run_id for _, run_id in self.sequences()}
        sequence = continual_sequence if continual_sequence in known else self._longer(continual_sequence)
        kept = ("continual_prompt", "continual_after", "continual_remove")
        values = {name: value for name, value in self.show(sequence).items() if name not in kept}
        prompts = self.studio.sequences.prompts(sequence) if sequence else []
        return values | {"continual_prompt": gr.update(choices=prompts)}

    def _concerns(self, shown: str) -> bool:
        """Return whether the shown run belongs to a sequence; also if it was just deleted."""
        try:
            return not shown or self.studio.training.status(shown)["method"] == METHOD
        except ValueError:
            return True

    def _longer(self, sequence: str) -> str:
        """Return a sequence that continues a run, if it was continued elsewhere; "" if it is gone."""
        cards_of = self.studio.sequences.list()
        return next(
            (
                card.id
                for card in cards_of
                if sequence and sequence in [task.run for task in self._tasks(card.id)]
            ),
            "",
        )

    def show(self, sequence: str) -> Values:
        """Return everything that belongs to a sequence."""
        tasks = self._tasks(sequence)
        offered = [(f"{task.index}: {task.name}", task.run) for task in tasks if task.run]
        values: Values = {
            "continual_sequence": gr.update(choices=self._choices(sequence), value=sequence),
            "continual_after": gr.update(choices=offered, value=sequence or None, visible=len(offered) > 1),
            "continual_remove": gr.update(value=REMOVE, interactive=bool(tasks)),
            "continual_heading": self._heading(tasks),
        }
        if not tasks:
            return values | self._nothing()
        finished = [(label, run) for label, run in offered if self._finished(run)]
        prompts = self.studio.sequences.prompts(sequence)
        other = self.studio.sequences.counterpart(sequence)
        return (
            values
            | self._pictures(tasks, other)
            | {
                "continual_matrix": self._matrix(sequence, other),
                "continual_entries": self._entries(sequence, tasks),
                "continual_prompt": gr.update(choices=prompts, value=prompts[0] if prompts else ""),
                "continual_model": gr.update(choices=finished, value=finished[-1][1] if finished else None),
                "continual_if": gr.update(
                    visible=bool(not other and len(tasks) > 1 and any(t.weight for t in tasks[1:]))
                ),
                "continual_export_row": gr.update(visible=self._finished(sequence)),
                **{f"continual_{name}_row": gr.update(visible=bool(finished)) for name in CARDS},
            }
        )

    def _choices(self, sequence: str) -> list[tuple[str, str]]:
        """Return the sequences to choose from, including an earlier state of a longer one if it is shown."""
        choices = self.sequences()
        if sequence and sequence not in [run_id for _, run_id in choices]:
            choices.append((panels.progress_of(self._tasks(sequence)), sequence))
        return choices

    def _nothing(self) -> Values:
        hidden = (*(f"continual_{name}_row" for name in CARDS), "continual_export_row")
        return {
            "continual_grid": shared.placeholder(EMPTY),
            "continual_matrix": Html(""),
            "continual_entries": Html(""),
            "continual_prompt": gr.update(choices=[], value=""),
            "continual_model": gr.update(choices=[], value=None),
            "continual_if": gr.update(visible=False),
            **{name: gr.update(visible=False) for name in hidden},
        }

    def _heading(self, tasks: Sequence[Task]) -> Html:
        told = panels.progress_of(tasks) if tasks else "No concept yet"
        return shared.heading("", "Every concept after every task", told)

    def _finished(self, run_id: str) -> bool:
        status = self.studio.training.status(run_id)
        return status["state"] not in LIVE and (Path(status["path"]) / "adapter.safetensors").is_file()

    def _pictures(self, tasks: Sequence[Task], other: str) -> Values:
        rows = self.studio.sequences.pictures(tasks[-1].run)
        if not any(rows):
            return {"continual_grid": shared.placeholder(UNFINISHED)}
        title = "With self-regularization" if other else ""
        drawn = [panels.grid(tasks, rows, copies=self.copies, title=title)]
        if other:
            theirs = self.studio.sequences.pictures(other)
            drawn.append(panels.grid(self._tasks(other), theirs, copies=self.copies, title="Without it"))
        return {"continual_grid": element("div", *drawn, class_="sequences")}

    def _matrix(self, sequence: str, other: str) -> Html:
        views = self.studio.sequences.forgetting(sequence)
        if not views:
            return shared.hint(
                "Similarities are measured when a concept is finished, if this base has an image encoder."
            )
        plain = (
            [
                view | {"title": f"{view['title']}, {WITHOUT}"}
                for view in self.studio.sequences.forgetting(other)
            ]
            if other
            else []
        )
        return method_views.drawn([*views, *plain])

    def _entries(self, sequence: str, tasks: Sequence[Task]) -> Html:
        shown = next((task.run for task in reversed(tasks) if task.run and self._finished(task.run)), "")
        views = self.studio.inspection.views(shown) if shown else []
        if not views:
            return shared.hint("The weights that each concept changed appear here.")
        names = {task.word: task.name for task in tasks}
        told = self.studio.inspection.entry_map(shown)
        return element(
            "div",
            panels.entries(told, names, copies=self.copies),
            method_views.drawn(_named(views, names)),
            class_="views",
        )

    # Pictures and files

    def generate(
        self,
        continual_sequence: str,
        continual_model: str | None,
        continual_prompt: str | None,
        continual_seed: int,
    ) -> Values:
        """Generate a picture of one or several concepts; beside it the same without self-regularization."""
        if not continual_model:
            raise ValueError(
                "This sequence has no finished concept yet; wait for it, or choose another sequence."
            )
        config = SampleConfig(prompt=clean_text(continual_prompt or ""), seed=int(continual_seed or 0))
        (picture,) = self.studio.generation.generate(config, run_id=continual_model)
        shown = [("The picture", picture)]
        other = self.studio.sequences.counterpart(continual_model)
        if other and self._finished(other):
            (beside,) = self.studio.generation.generate(config, run_id=other)
            shown = [("With self-regularization", picture), ("Without it", beside)]
        facts = [("After task", str(len(self._tasks(continual_model))))]
        return {
            "continual_result": panels.pictures(shown, copies=self.copies),
            "continual_told": shared.caption(prompt=config.prompt, seed=config.seed, facts=facts),
        }

    def export(self, continual_sequence: str, continual_format: str) -> Values:
        """Export the whole sequence for another program and show the result of reading it back."""
        written, report = self.studio.import_export.verified_export(continual_sequence, continual_format)
        return {
            "continual_file": gr.update(value=str(self.copies.copy(written)), visible=True),
            "continual_verified": element("p", f"Verified: {report}", class_="verified", role="status"),
        }


def _named(views: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return views with the concepts' names in place of their trigger words."""
    return [
        {
            **view,
            "rows": [names.get(word, word) for word in view["rows"]],
            "columns": [names.get(word, word) for word in view["columns"]],
        }
        for view in views
    ]
