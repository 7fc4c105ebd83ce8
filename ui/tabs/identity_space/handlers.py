"""Handlers of the tab Identity space. They take widget values by name and return new ones by name.

The picture has one event: sliders and every other change lead to it, and it runs one at a time and always with the
newest values, so that no older answer can replace a newer one.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.config import SampleConfig, clean_text
from pipelines.files import file_stem
from pipelines.formats.table import choices
from pipelines.methods.specs import methods_of, preset_names
from pipelines.services.identity_space import (
    BUILD,
    CHOSEN,
    FIRST,
    FIRST_SAMPLER,
    Drawing,
    Edit,
    Point,
    is_identity,
)
from pipelines.weightspace.index import Attribute, Manifest
from ui.html import BrowserCopies, Html
from ui.live_preview import FULL_STEPS, preview
from ui.run import panels
from ui.run.monitor import RunMonitor, Values
from ui.tabs.identity_space import drawn

METHOD = next(spec.name for spec in methods_of("identity_space"))
MOST_SLIDERS = 12
SEPARATED = 0.6  # balanced accuracy below which a slider is not offered first
EDITS = [f"space_edit_{place}" for place in range(MOST_SLIDERS)]
MOST_HISTORY = 40
SCENES = ("{prompt}", "{prompt} on the beach", "{prompt} in the forest", "{prompt} in the library")
NO_SPACE = f"No identity space is installed for this base model. This command builds one: {BUILD}"
SAMPLERS = (
    ("Plain, as in the paper", "plain"),
    ("Blend of three members", "blended"),
    ("Most consistent of four blends", CHOSEN),
    ("Shrunk outside the attributes", "shrunk"),
)


class IdentityHandlers:
    """Shows one person of a space at a time; ``point`` is the person, the sliders are what changes it."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor
        self.studio = monitor.studio
        self.copies: BrowserCopies = monitor.copies
        self.spaces: dict[str, Manifest] = {told.name: told for told in self.studio.identities.spaces()}
        facts = next(iter(self.studio.inspection.bases()))
        self.family, self.size_px = facts.family, 128 if facts.family == "embedded" else 512

    # ---- what there is ----------------------------------------------------------------------------------------------

    def space(self, name: str = "") -> Manifest | None:
        """Return a space, by default the first; None where none is installed."""
        return self.spaces.get(name) or next(iter(self.spaces.values()), None)

    def attributes(self, name: str = "") -> list[Attribute]:
        """Return the attributes with a slider, in the space's order; those that are hardly separated come last."""
        told = self.space(name)
        ranked = (
            sorted(told.attributes, key=lambda one: 0 < one.balanced_accuracy < SEPARATED) if told else []
        )
        return ranked[:MOST_SLIDERS]

    def presets(self) -> list[str]:
        """Return the presets of inversion, the fastest first."""
        return preset_names(METHOD, self.family)

    def identities(self) -> list[tuple[str, str]]:
        """Return (label, run id) of every saved or inverted person."""
        runs = [run for run in self.studio.library.list_runs() if is_identity(run) and run.state == "done"]
        names = self.studio.library.names()
        return [(names.get(run.id, run.name), run.id) for run in runs]

    def companions(self) -> list[tuple[str, str]]:
        """Return (label, run id) of every run that can be drawn together with a person."""
        runs = self.studio.library.list_runs(shipped=True)
        usable = [run for run in runs if run.kind and run.kind != "subspace" and run.state == "done"]
        names = self.studio.library.names()
        return [("nothing", ""), *((names.get(run.id, run.name), run.id) for run in usable)]

    def offer(self) -> Values:
        """Update the lists of saved people and of runs to combine with."""
        people = self.identities()
        return {
            "space_open": gr.update(choices=people),
            "space_other": gr.update(choices=people),
            "space_third": gr.update(choices=people),
            "space_beside": gr.update(choices=self.companions()),
        }

    def first_picture(self) -> Html:
        """Return the shipped picture of the first person, or an empty frame."""
        told = self.space()
        path = self.studio.identities.preview_of(told.name) if told else None
        if path is None:
            return panels.placeholder("The first person is drawn when this page is opened.")
        return panels.single(self.copies.enlarged(path), alt="A person of the space", label="New person")

    # ---- choosing a person ------------------------------------------------------------------------------------------

    def open(self, space_point: Values | None, space_name: str) -> Values:
        """Show the first person when the page is opened."""
        if space_point or not self.spaces:
            return {}
        return self.number(FIRST, space_name, 1.0, FIRST_SAMPLER, True, 0)

    def new_person(
        self, space_name: str, space_factor: float, space_sampler: str, space_keep: bool, space_seed: int
    ) -> Values:
        """Show another new person."""
        number = secrets.randbelow(10_000)
        return self.number(number, space_name, space_factor, space_sampler, space_keep, space_seed)

    def number(
        self,
        space_number: int | None,
        space_name: str,
        space_factor: float,
        space_sampler: str,
        space_keep: bool,
        space_seed: int,
    ) -> Values:
        """Show the new person of a number; unless the seed is kept, it is drawn with its number as the seed."""
        number = int(space_number or 0)
        point = self.studio.identities.sample(
            space_name, seed=number, factor=space_factor, sampler=space_sampler
        )
        seed = int(space_seed or 0) if space_keep else number
        return self._shown(point) | {"space_number": number, "space_seed": seed}

    def choose_space(self, space_name: str) -> Values:
        """Turn to another space: its sliders, its words and its first person."""
        told = self.space(space_name)
        assert told is not None
        values: Values = {"space_prompt": told.prompt}
        for place, name in enumerate(EDITS):
            known = self.attributes(space_name)[place : place + 1]
            values[name] = _slider(known[0]) if known else gr.update(visible=False)
        return values | self.number(FIRST, space_name, 1.0, FIRST_SAMPLER, True, 0)

    def open_saved(self, space_open: str | None) -> Values:
        """Show a saved or inverted person."""
        if not space_open:
            raise ValueError("No saved person is chosen; save one first, or find one from a photograph.")
        return self._shown(self.studio.identities.of_run(space_open))

    def recall(self, space_recall: str) -> Values:
        """Show the person of a picture that was made on this page, with its edits, prompt and seed."""
        point, edit, config = self.studio.identities.recall(Path(space_recall))
        places = {each.name: EDITS[place] for place, each in enumerate(self.attributes(point.space))}
        edits = {places[name]: amount for name, amount in edit.amounts.items() if name in places}
        return self._shown(point, edits) | {
            "space_recall": None,
            "space_prompt": config.prompt,
            "space_seed": config.seed,
            "space_debias": edit.debias,
            "space_delay": edit.start_noise,
        }

    def walk_to(self, value: str, space_point: Values, space_debias: bool, **edits: float) -> Values:
        """Move the person to a place of the map; all further coordinates stay."""
        point = self._edited(space_point, space_debias, edits)
        x, y = (float(part) for part in value.split(","))
        return self._shown(self.studio.identities.moved_to(point, x, y))

    def combine(
        self,
        space_point: Values,
        space_debias: bool,
        space_how: str,
        space_other: str | None,
        space_third: str | None,
        space_share: float,
        **edits: float,
    ) -> Values:
        """Show a point between people, or the sum or analogy of people."""
        others = [run for run in (space_other, space_third if space_how == "analogy" else None) if run]
        points = [self._edited(space_point, space_debias, edits)]
        points += [self.studio.identities.of_run(run) for run in others]
        return self._shown(self.studio.identities.combined(space_how, points, share=space_share))

    def reset(self) -> Values:
        """Move every slider to 0."""
        return dict.fromkeys(EDITS, 0.0) | {"space_nudge": secrets.token_hex(4)}

    def _shown(self, point: Point, edits: Mapping[str, float] | None = None) -> Values:
        values: Values = dict.fromkeys(EDITS, 0.0) | dict(edits or {})
        return values | {"space_point": _stored(point), "space_name": point.space}

    def _edited(self, space_point: Values, debias: bool, edits: Mapping[str, float]) -> Point:
        point = _point(space_point)
        return self.studio.identities.edited(point, Edit(self._amounts(point.space, edits), debias))

    def _amounts(self, space: str, edits: Mapping[str, float]) -> dict[str, float]:
        return {
            each.name: float(edits.get(EDITS[place]) or 0.0)
            for place, each in enumerate(self.attributes(space))
        }

    # ---- the picture ------------------------------------------------------------------------------------------------

    def draw(
        self,
        space_point: Values | None,
        space_history: Values,
        space_before: Values,
        space_prompt: str,
        space_seed: int,
        space_debias: bool,
        space_delay: int,
        space_beside: str | None,
        space_beside_strength: float,
        space_full: bool,
        **edits: float,
    ) -> Values:
        """Draw the person with the sliders' changes: a small preview while a slider moves, else the full picture."""
        if not space_point:
            return {}
        point = _point(space_point)
        edit = Edit(self._amounts(point.space, edits), space_debias, int(space_delay))
        config = self._config(space_prompt, space_seed, full=space_full)
        beside = [{"run": space_beside, "strength": space_beside_strength}] if space_beside else []
        drawing = self.studio.identities.draw(point, edit, config, beside=beside)
        if not space_full:
            return {"space_picture": self._single(drawing, config.prompt, label="Preview")}
        key = repr((space_point["packed"], config.prompt, config.seed, beside))
        before = space_before.get("path", "") if space_before.get("key") == key else ""
        if not edit.moved:
            before = str(drawing.path)
        elif not before or not Path(before).is_file():
            before = str(self.studio.identities.draw(point, Edit({}), config, beside=beside).path)
        history = _remembered(space_history, {"point": space_point, "edits": dict(edits)})
        companion = dict((run, name) for name, run in self.companions()).get(space_beside or "", "")
        labels = {each.name: each.label for each in self.attributes(point.space)}
        told = {labels[name]: amount for name, amount in edit.moved.items()}
        return {
            "space_picture": self._compared(before, drawing, config.prompt, edited=bool(edit.moved)),
            "space_caption": drawn.caption(
                drawing, prompt=config.prompt, seed=config.seed, origin=point.origin, edits=told,
                beside=companion if space_beside else "",
            ),
            "space_before": {"key": key, "path": before},
            "space_history": history,
            "space_drawn": {"before": before, "after": str(drawing.path), "n": secrets.token_hex(4)},
            "space_download": gr.update(value=str(self.copies.copy(drawing.path)), interactive=True),
        }  # fmt: skip

    def _config(self, prompt: str, seed: int, *, full: bool) -> SampleConfig:
        config = SampleConfig(prompt=clean_text(prompt or ""), seed=int(seed or 0), steps=FULL_STEPS)
        return config if full else preview(config, size_px=self.size_px)

    def _single(self, drawing: Drawing, prompt: str, *, label: str) -> Html:
        return panels.single(self.copies.enlarged(drawing.path), alt=prompt, label=label)

    def _compared(self, before: str, drawing: Drawing, prompt: str, *, edited: bool) -> Html:
        if not edited:
            return self._single(drawing, prompt, label="This person")
        pair = [self.copies.enlarged(path) for path in (Path(before), drawing.path)]
        return panels.compare(*pair, alt=prompt, labels=("Before the edit", "After"))

    def measure(
        self, space_point: Values | None, space_history: Values, space_drawn: Values, space_debias: bool,
        **edits: float,
    ) -> Values:  # fmt: skip
        """Show where the person lies, and what the parameter reader saw change."""
        if not space_point or not space_drawn:
            return {}
        point = _point(space_point)
        amounts = Edit(self._amounts(point.space, edits)).moved
        place = self.studio.identities.place(self._edited(space_point, space_debias, edits))
        steps = space_history.get("steps", [])[: space_history.get("at", -1) + 1]
        trail = [
            self._spot(step, space_debias) for step in steps[-12:] if step["point"]["space"] == point.space
        ]
        paths = [Path(space_drawn[name]) for name in ("before", "after")]
        found = self.studio.identities.moved(*paths) if amounts and all(map(Path.is_file, paths)) else []
        labels = {each.name: each.label for each in self.attributes(point.space)}
        return {
            "space_map": drawn.map_of(self.studio.identities.map(point.space), place, trail),
            "space_where": drawn.whereabouts(place),
            "space_moved": drawn.moved_bars(found, edited=amounts, labels=labels),
        }

    def _spot(self, step: Values, debias: bool) -> tuple[float, float]:
        place = self.studio.identities.place(self._edited(step["point"], debias, step["edits"]))
        return place.x, place.y

    def undo(self, space_history: Values) -> Values:
        """Go back to the picture before."""
        return self._turned(space_history, -1)

    def redo(self, space_history: Values) -> Values:
        """Go forward again."""
        return self._turned(space_history, +1)

    def _turned(self, history: Values, by: int) -> Values:
        at, steps = history.get("at", -1) + by, history.get("steps", [])
        if not 0 <= at < len(steps):
            raise ValueError("There is nothing to undo yet." if by < 0 else "There is nothing to redo.")
        step = steps[at]
        again = step["point"] | {"n": secrets.token_hex(4)}
        return dict(step["edits"]) | {
            "space_point": again,
            "space_name": again["space"],
            "space_history": history | {"at": at},
        }

    def scenes(
        self,
        space_point: Values,
        space_prompt: str,
        space_seed: int,
        space_debias: bool,
        space_delay: int,
        progress: Any = None,
        **edits: float,
    ) -> Values:
        """Draw the person in four scenes, each with another seed, and measure how alike the pictures are."""
        point = _point(space_point)
        edit = Edit(self._amounts(point.space, edits), space_debias, int(space_delay))
        config = self._config(space_prompt, space_seed, full=True)
        prompts = [scene.format(prompt=config.prompt) for scene in SCENES]
        found = self.studio.identities.scenes(
            point,
            edit,
            config,
            prompts,
            progress=None
            if progress is None
            else lambda done, total: progress((done, total), desc="Drawing", unit="scenes"),
        )
        return {"space_scenes": drawn.scenes_of(found, copies=self.copies)}

    # ---- keeping and finding ----------------------------------------------------------------------------------------

    def save(
        self,
        space_point: Values,
        space_title: str,
        space_debias: bool,
        space_drawn: Values,
        **edits: float,
    ) -> Values:
        """Save the person to the Library."""
        run_id = self._saved(space_point, space_title, space_debias, space_drawn, edits)
        name = self.studio.training.status(run_id)["name"]
        return self.offer() | {
            "space_kept": panels.hint(f"Saved to the Library as “{name}”."),
            "runs": gr.update(choices=self.monitor.run_choices()),
        }

    def export(
        self,
        space_point: Values,
        space_title: str,
        space_debias: bool,
        space_drawn: Values,
        space_format: str,
        **edits: float,
    ) -> Values:
        """Save the person and export it as a LoRA; the file is loaded again by the other program's loader."""
        run_id = self._saved(space_point, space_title, space_debias, space_drawn, edits)
        path, told = self.studio.import_export.verified_export(run_id, space_format)
        called = file_stem(self.studio.training.status(run_id)["name"], default="run")
        copy = self.copies.copy(path, name=path.name.replace(run_id, called))
        return self.offer() | {
            "space_file": gr.update(value=str(copy), visible=True),
            "space_kept": panels.hint(f"Checked: {told}."),
        }

    def _saved(
        self, space_point: Values, title: str, debias: bool, space_drawn: Values, edits: Mapping[str, float]
    ) -> str:
        """Return the run of this person; the same person under the same name is saved only once."""
        if not space_point:
            raise ValueError("There is no person yet; press New person first.")
        point = _point(space_point)
        edit = Edit(self._amounts(point.space, edits), debias)
        final = self.studio.identities.edited(point, edit)
        for _, run_id in self.identities():
            known = self.studio.identities.of_run(run_id)
            same_name = not clean_text(title or "") or known.origin == clean_text(title)
            if (known.space, known.coordinates) == (final.space, final.coordinates) and same_name:
                return run_id
        path = Path((space_drawn or {}).get("after", ""))
        return self.studio.identities.save(
            point, edit, name=title or "", picture=path if path.is_file() else None
        )

    def invert(
        self,
        space_photo: Values | None,
        space_consent: bool,
        space_preset: str,
        space_name: str,
        shown: str = "",
    ) -> Values:
        """Start the search for the person in a photograph and show the run."""
        background = (space_photo or {}).get("background")
        if background is None:
            raise ValueError("There is no photograph; add one first.")
        folder = self.studio.resources.outbox / f"inversion-{secrets.token_hex(6)}"
        folder.mkdir()
        photo, mask = folder / "photo.png", None
        background.convert("RGB").save(photo)
        painted = self.studio.inspection.painted(space_photo["layers"], background.size)  # type: ignore[index]
        if painted is not None:
            mask = folder / "mask.png"
            painted.save(mask)
        run_id = self.studio.identities.invert(
            space_name, photo, mask=mask, preset_name=space_preset, consent=bool(space_consent)
        )
        return {"space_finding": run_id} | self.monitor.started(run_id, shown)

    def watch(self, shown: str, space_finding: str) -> Values:
        """Show the run of an inversion, and its person as soon as it has finished."""
        if not shown:
            return {"space_run": gr.update(visible=False)}
        status = self.studio.training.status(shown)
        visible: Values = {"space_run": gr.update(visible=status["method"] == METHOD)}
        if not space_finding:
            return visible
        try:  # it may be another run than the shown one, while it waits in the queue
            state = self.studio.training.status(space_finding)["state"]
        except ValueError:  # discarded
            return visible | {"space_finding": ""}
        if state not in ("done", "stopped"):
            return visible
        return visible | {"space_finding": ""} | self._shown(self.studio.identities.of_run(space_finding))


def _slider(attribute: Attribute) -> Any:
    return gr.update(label=attribute.label, info=ends(attribute), value=0.0, visible=True)


def ends(attribute: Attribute) -> str:
    """Return what the two ends of an attribute's slider look like."""
    return f"{attribute.low} – {attribute.high}"


def formats() -> list[tuple[str, str]]:
    """Return (title, name) of the formats that an identity is exported in."""
    return choices("subspace")


def _stored(point: Point) -> Values:
    return {
        "space": point.space,
        "packed": point.packed(),
        "origin": point.origin,
        "n": secrets.token_hex(4),
    }


def _point(stored: Values) -> Point:
    if not stored:
        raise ValueError("There is no person yet; press New person first.")
    return Point.unpacked(stored["space"], stored["packed"], stored["origin"])


def _remembered(history: Values, step: Values) -> Values:
    """Return the history with a step after the present one; the same step again changes nothing."""
    at, steps = history.get("at", -1), list(history.get("steps", []))
    if steps and _key(steps[at]) == _key(step):
        return history
    steps = [*steps[: at + 1], step][-MOST_HISTORY:]
    return {"at": len(steps) - 1, "steps": steps}


def _key(step: Values) -> Any:
    edits = {name: amount for name, amount in step["edits"].items() if amount}
    return step["point"]["space"], step["point"]["packed"], edits
