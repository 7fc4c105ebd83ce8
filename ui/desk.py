"""What the widgets of the first page do: each handler takes widget values by name and returns new ones by name.

A handler knows the Studio and never a component; :mod:`ui.train` says which widget bears which name.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.config import SampleConfig, method_config, preset, preset_names
from ui import form, panels, plots
from ui.markup import Handout, Html
from ui.view import LIVE, WORDS, RunView, fold

if TYPE_CHECKING:
    from pipelines.studio import Studio

Values = dict[str, Any]
EMPTY_FRAME = "Choose an example, or add photographs of your own."
LABELS = ("Before", "After")


class Desk:
    """The handlers, bound to one Studio and to the folder of copies that browsers may read."""

    def __init__(self, studio: "Studio", handout: Handout) -> None:
        self.studio = studio
        self.handout = handout
        self.bases = {base["spec"]: base for base in studio.bases()}
        self.examples = {example["name"]: example for example in studio.examples()}
        self._warmed = False

    def source_of(self, name: str) -> Values:
        """Return what is trained on when an example is chosen: its title and its photographs."""
        example = self.examples[name]
        return {"title": example["title"], "files": [str(path) for path in example["photos"]], "crops": {}}

    def plans(self, spec: str) -> list[tuple[str, str]]:
        """Return the (label, value) choices of method and preset for a base."""
        family = self.bases[spec]["family"]
        return [(f"DreamBooth · {name}", f"dreambooth/{name}") for name in preset_names("dreambooth", family)]

    def chosen_preset(self, plan: str, spec: str) -> tuple[str, Any]:
        """Return the method and the config that a plan such as "dreambooth/Quick" names on a base."""
        method, _, name = plan.partition("/")
        return method, preset(method, self.bases[spec]["family"], name)

    # Choosing a subject

    def choose_example(self, name: str) -> Values:
        """Click 1: fill every field from an example; quick, so that click 2 may follow at once."""
        example = self.examples[name]
        return {
            "source": self.source_of(name),
            "class_noun": example["class_noun"],
            "identifier": example["identifier"],
            "upload": None,
            "crops_row": gr.update(visible=False),
            "prompt": example["prompt"],
            "seed": example["seed"],
            **{f"example_{other}": gr.update(elem_classes=card(other == name)) for other in self.examples},
        }

    def show_example(self, name: str) -> Values:
        """Click 1 goes on: show the result that ships with the example."""
        return self.show_run(self.examples[name]["run"])

    def choose_files(self, upload: list[str] | None, source: Values | None, base: str) -> Values:
        """Take photographs of the visitor's own and show their square crops; an example's words go with it."""
        words = {"class_noun": "", "identifier": ""} if source and source["title"] else {}
        unmarked = {f"example_{name}": gr.update(elem_classes=card(False)) for name in self.examples}
        if not upload:
            return {"source": None, "crops_row": gr.update(visible=False)}
        source = {"title": "", "files": list(upload), "crops": {}}
        cleared = {"source": source, "nudge_row": gr.update(visible=False), **words, **unmarked}
        return cleared | self._previews(source, base)

    def nudge(self, source: Values, base: str, photo: int, across: float, down: float) -> Values:
        """Move the crop of one photograph; ``across`` and ``down`` run from -1 to 1."""
        name = _names(source)[photo]
        source = source | {"crops": source["crops"] | {name: (across, down)}}
        return {"source": source} | self._previews(source, base)

    def choose_photo(self, source: Values, photo: int) -> Values:
        """Offer the sliders that move the crop of one photograph."""
        names = _names(source)
        if any(name.lower().endswith(".zip") for name in names):
            raise ValueError("Photographs inside a zip keep their middle; unpack it to move a crop.")
        name = names[photo]
        across, down = source["crops"].get(name, (0.0, 0.0))
        return {
            "photo": photo,
            "nudge_row": gr.update(visible=True),
            "across": gr.update(value=across, label=f"{name}: left or right"),
            "down": gr.update(value=down, label=f"{name}: up or down"),
        }

    def _previews(self, source: Values, base: str) -> Values:
        files = [Path(file) for file in source["files"]]
        squares = self.studio.photos_preview(files, source["crops"], base=base)
        zipped = any(file.suffix.lower() == ".zip" for file in files)
        names = [f"photograph {index}" for index in range(1, len(squares) + 1)] if zipped else _names(source)
        shown = [(str(self.handout.copy(square)), name) for square, name in zip(squares, names, strict=True)]
        return {"crops_row": gr.update(visible=True), "crops": shown}

    def identifiers(self, base: str, identifier: str) -> Values:
        """Offer rare words of the base's own vocabulary, and take the first where none is chosen yet."""
        words = [found["text"] for found in self.studio.identifiers(base=base)]
        return {"identifier": gr.update(choices=words, value=identifier or words[0])}

    # What it will take

    def choose_base(self, base: str) -> Values:
        """Offer the presets that suit a base, and say what it needs."""
        plans = self.plans(base)
        return {
            "plan": gr.update(choices=plans, value=plans[0][1]),
            "needs": panels.base_needs(self.bases[base]),
        }

    def choose_plan(self, plan: str, base: str) -> Values:
        """Fill the advanced fields from a preset."""
        _, config = self.chosen_preset(plan, base)
        values = form.shown(config)
        return {name: values[name] for name in form.field_names(type(config), advanced=True)}

    def cost(self, source: Values | None, plan: str, base: str, **fields: Any) -> Values:
        """Say before the click how long it takes and what it needs."""
        photos = len(source["files"]) if source else 0
        method = plan.partition("/")[0]
        try:
            config = form.parse(method_config(method), fields)
        except ValueError as error:
            return {"cost": Html(f'<p class="cost">{panels.element("span", str(error))}</p>')}
        facts = self.studio.cost(method, config, photos, base=base) if photos else {}
        return {"cost": panels.cost(facts, photos=photos)}

    # A run

    def start(self, source: Values | None, plan: str, base: str, **fields: Any) -> Values:
        """Click 2: train on the chosen photographs, and watch."""
        if not source:
            raise ValueError("Choose an example or add between 1 and 20 photographs first.")
        method = plan.partition("/")[0]
        config = form.parse(method_config(method), fields)
        run_id = self.studio.start(
            method,
            config,
            [Path(file) for file in source["files"]],
            base=base,
            crops=source["crops"] or None,
            name=source["title"] or config.words("{identifier} {class_noun}"),
        )
        prompts = [config.words(prompt) for prompt in config.sample_prompts]
        return {"prompt": prompts[-1], "seed": config.sample_seed} | self.show_run(run_id)

    def show_run(self, run_id: str) -> Values:
        """Turn the page to a run, drawing all of it."""
        if not run_id:
            return {}
        values = self.watch(run_id, {})
        return values | {"shown": run_id, "runs": gr.update(choices=self.run_choices(), value=run_id)}

    def run_choices(self) -> list[tuple[str, str]]:
        """Return (label, run id) of every run to look at, one's own first."""
        own = [
            (f"{run['name']} · {WORDS[run['state']].lower()}", run["id"]) for run in self.studio.list_runs()
        ]
        shipped = [(f"{example['title']} · example", example["run"]) for example in self.examples.values()]
        return own + shipped

    def attach(self) -> Values:
        """On loading the page: find the run at work, so that a reload changes nothing."""
        if not self._warmed:
            self._warmed = True
            self.studio.warm()
        run_id = self._run_at_work()
        return self.show_run(run_id) if run_id else {"runs": gr.update(choices=self.run_choices())}

    def _run_at_work(self) -> str:
        return next((run["id"] for run in self.studio.list_runs() if run["state"] in LIVE), "")

    def watch(self, shown: str, drawn: Values) -> Values:
        """Draw what has changed about the shown run since ``drawn``; with none shown, follow the one at work."""
        if not shown:
            run_id = self._run_at_work()
            return self.show_run(run_id) if run_id else {}
        try:
            view = fold(self.studio.status(shown))
        except ValueError:
            return self._gone()
        now = _signature(view)
        same_run = drawn.get("run") == view.id
        changed = {part for part in now if not same_run or drawn.get(part) != now[part]}
        values: Values = {"drawn": now} if changed else {}
        if "progress" in changed:
            values["progress"] = panels.progress(view)
        if "curves" in changed:
            values |= {"loss": plots.loss_chart(view), "similarity": plots.similarity_chart(view)}
        if "samples" in changed:
            values |= self._pictures(view)
        if "state" in changed:
            values |= self._state(view) | {"runs": gr.update(choices=self.run_choices(), value=shown)}
        return values

    def _gone(self) -> Values:
        return {
            "shown": "",
            "drawn": {},
            "run_card": gr.update(visible=False),
            "start_row": gr.update(visible=True),
            "stop_row": gr.update(visible=False),
            "runs": gr.update(choices=self.run_choices(), value=None),
        }

    def _pictures(self, view: RunView) -> Values:
        values: Values = {
            "strip": panels.strip(view, handout=self.handout),
            "photos": panels.photo_wall(view.photos, handout=self.handout, title="Learned from"),
        }
        pair = view.pair()
        if pair is None:
            told = "The first picture is being drawn." if view.live else "Make a picture in the playground."
            return values | {"compare": panels.placeholder(told), "caption": Html("")}
        return values | self.comparison(view)

    def comparison(self, view: RunView) -> Values:
        """Return the large before/after of a run: its first and its latest sample, same prompt and seed."""
        pair = view.pair()
        if pair is None:
            return {}
        first, latest = pair
        after = LABELS[1] if latest.step >= view.total else f"After {latest.step} steps"
        facts = [("Subject", view.name), ("Steps", f"{latest.step} of {view.total}")]
        return {
            "compare": panels.compare(
                self.handout.enlarged(first.file),
                self.handout.enlarged(latest.file),
                alt=latest.prompt,
                labels=(LABELS[0], after),
            ),
            "caption": panels.caption(prompt=latest.prompt, seed=latest.seed, facts=facts),
        }

    def _state(self, view: RunView) -> Values:
        shipped = any(example["run"] == view.id for example in self.examples.values())
        kept = view.state in ("done", "stopped") and view.step > 0
        unfinished = view.state == "interrupted" or (view.state == "stopped" and view.step < view.total)
        return {
            "run_card": gr.update(visible=True),
            "start_row": gr.update(visible=not view.live),
            "stop_row": gr.update(visible=view.live),
            "after_row": gr.update(visible=not view.live and not shipped),
            "resume": gr.update(visible=unfinished),
            "more_row": gr.update(visible=kept),
            "charts": gr.update(visible=not view.imported),
            "playground": gr.update(visible=True),
        }

    def stop(self, shown: str) -> Values:
        """Stop after the current step and keep what was learned."""
        self.studio.stop(shown, keep=True)
        return self.watch(shown, {})

    def discard(self, shown: str) -> Values:
        """Forget a run and everything it made."""
        self.studio.discard(shown)
        return self._gone()

    def train_more(self, shown: str, more_steps: float) -> Values:
        """Continue a finished run."""
        self.studio.train_more(shown, int(more_steps or 0))
        return self.watch(shown, {})

    def resume(self, shown: str) -> Values:
        """Continue an interrupted or stopped run where it was."""
        self.studio.resume(shown)
        return self.watch(shown, {})

    def sample_now(self, shown: str) -> Values:
        """Draw a row of samples before its time."""
        self.studio.sample_now(shown)
        return {}

    def export(self, shown: str, file_format: str) -> Values:
        """Write the adapter in a format other programs read, and hand out a copy."""
        path = self.handout.copy(self.studio.export(shown, file_format))
        return {"exported": gr.update(value=str(path), visible=True)}

    # The playground

    def load_lora(self, lora: str, base: str) -> Values:
        """Turn the page to a LoRA file of the visitor's own, with its trigger words in the prompt."""
        run_id = self.studio.import_lora(Path(lora), base=base)
        words = self.studio.status(run_id)["config"]["identifier"]
        prompt = {"prompt": f"a photo of a {words}"} if words else {}
        return {"lora": None} | prompt | self.show_run(run_id)

    def generate(self, shown: str, strength: float, **fields: Any) -> Values:
        """Draw with and without what was learned, from the same seed."""
        if not shown:
            raise ValueError("Choose an example or train your own subject first.")
        config = form.parse(SampleConfig, fields)
        if not config.prompt:
            raise ValueError("The prompt is empty; say what the picture shows.")
        paths = self.studio.generate(config, run_id=shown, strength=float(strength), before_after=True)
        before, after = paths[: config.count], paths[config.count :]
        copies = [str(self.handout.copy(path)) for path in after]
        facts = [
            ("Strength", f"{strength:g}"),
            ("Steps", str(config.steps)),
            ("Guidance", f"{config.guidance_scale:g}"),
        ]
        return {
            "result": panels.compare(
                self.handout.enlarged(before[0]),
                self.handout.enlarged(after[0]),
                alt=config.prompt,
                labels=("Without", "With it"),
            ),
            "result_caption": panels.caption(prompt=config.prompt, seed=config.seed, facts=facts),
            "gallery": gr.update(
                visible=len(copies) > 1,
                value=[(copy, f"seed {config.seed + index}") for index, copy in enumerate(copies)],
            ),
            "download": gr.update(value=copies[0], interactive=True),
        }


def card(chosen: bool) -> list[str]:
    """Return the CSS classes of an example's button."""
    return ["example-card", "chosen"] if chosen else ["example-card"]


def _names(source: Values) -> list[str]:
    return [Path(file).name for file in source["files"]]


def _signature(view: RunView) -> dict[str, Any]:
    every = max(1, view.total // 100)
    return {
        "run": view.id,
        "state": view.state,
        "progress": [view.state, view.step, view.stage, view.stage_done, view.message],
        "curves": [view.state, view.step // every, len(view.similarity.get("identity", ()))],
        "samples": [view.state, len(view.samples)],
    }
