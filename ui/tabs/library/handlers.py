"""Handlers of the Library: each takes widget values by name and returns new ones by name."""

import json
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.config import SPECTRAL
from pipelines.formats.table import choices, has_rank
from pipelines.methods.specs import method_config
from pipelines.runs.status import Card
from ui import forms as form
from ui.html import Html, element
from ui.run import cards, panels
from ui.run import method_views as views
from ui.run.monitor import RunMonitor, Values
from ui.run.state import LIVE
from ui.tabs.compare import rows
from ui.tabs.library import order
from ui.tabs.train.handlers import captions_for, own_fields
from ui.tabs.train.photos import photo_names
from ui.tabs.train.playground_handlers import PlaygroundHandlers

RESUMABLE = ("interrupted", "failed", "stopped")


class LibraryHandlers:
    """Handlers of the Library, bound to one Studio."""

    def __init__(self, monitor: RunMonitor, playground: PlaygroundHandlers) -> None:
        self.monitor = monitor
        self.playground = playground
        self.studio = monitor.studio
        self.copies = monitor.copies

    def rows(
        self,
        search: str | None = "",
        lib_method: str | None = "",
        lib_base: str | None = "",
        lib_order: str | None = "",
    ) -> list[Card]:
        """Return the runs that contain every word of ``search``, of one method and base, in an order of ``ORDERS``."""
        words = (search or "").lower().split()  # None before the tab was opened
        found = [
            row
            for row in self.studio.library.list_runs(shipped=True)
            if all(word in _text(row) for word in words)
        ]
        return order.chosen(found, method=lib_method, base=lib_base, order=lib_order)

    def browse(self, search: str | None, chosen: str, **filters: str | None) -> Values:
        """Show the runs that match the search and the filters ``lib_method``, ``lib_base`` and ``lib_order``."""
        rows = self.rows(search, **filters)
        filtered = bool(search or filters.get("lib_method") or filters.get("lib_base"))
        shown = cards.run_cards(rows, chosen=chosen, copies=self.copies, filtered=filtered)
        return {"cards": shown, "found": Html(f'<p class="hint" role="status">{_counted(rows)}</p>')}

    def offer(self, search: str | None, chosen: str, **filters: str | None) -> Values:
        """Show the runs, and update the methods and bases to filter by."""
        rows = self.studio.library.list_runs(shipped=True)
        asked = {name: filters.get(f"lib_{name}") for name in ("method", "base")}
        values = order.offered(rows, prefix="lib_", **asked)
        given = {name: update["value"] for name, update in values.items()}
        return values | self.browse(search, chosen, **filters | given)

    def choose(self, value: str, search: str, **filters: str | None) -> Values:
        """Open one run."""
        return self.browse(search, value, **filters) | self.detail(value)

    def detail(self, chosen: str) -> Values:
        """Return all values for the details of the chosen run."""
        row = self._row(chosen)
        own = not row.shipped
        idle = row.state not in LIVE
        formats = choices(row.kind) or choices("lora")
        settings = self.studio.library.settings(chosen) if row.method not in ("", "import") else None
        return {
            "chosen": chosen,
            "detail": gr.update(visible=True),
            "facts": cards.facts(row, copies=self.copies),
            "name": gr.update(value=row.name, interactive=own),
            "notes": gr.update(value=row.notes, interactive=own),
            "save": gr.update(visible=own),
            "delete": gr.update(visible=own and idle),
            "lib_resume": gr.update(visible=own and row.state in RESUMABLE),
            "lib_replay": gr.update(visible=idle and row.method != "import"),
            "confirm_row": gr.update(visible=False),
            "lib_format": gr.update(choices=formats, value=formats[0][1]),
            "lib_rank": gr.update(visible=has_rank(row.kind)),
            "merge_row": gr.update(open=False),
            "merged_file": gr.update(value=None, visible=False),
            **dict.fromkeys(("views", "spectrum", "likeness", "merged", "moved_heading"), Html("")),
            "moved": gr.update(visible=False),
            "shift_row": gr.update(visible=False),
            "combine_row": gr.update(visible=row.kind == SPECTRAL, open=False),
            "mix_with": gr.update(choices=self._others(chosen), value=None),
            "verified": Html(""),
            "lib_exported": gr.update(value=None, visible=False),
            "settings_row": gr.update(visible=settings is not None),
            "command": settings["command"] if settings else "",
            "settings_out": gr.update(value=self._run_json(settings)) if settings else gr.skip(),
        }

    def _row(self, chosen: str) -> Card:
        found = next((row for row in self.studio.library.list_runs(shipped=True) if row.id == chosen), None)
        if found is None:
            raise ValueError("This run is no longer in the Library; choose another.")
        return found

    def _run_json(self, settings: dict[str, Any]) -> str:
        return str(self.copies.write("run.json", json.dumps(settings, indent=1, ensure_ascii=False)))

    def save(self, chosen: str, name: str, notes: str, search: str, **filters: str | None) -> Values:
        """Save the name and the notes."""
        self.studio.library.rename(chosen, name)
        self.studio.library.note(chosen, notes)
        gr.Info("Name and notes are saved.", title="Saved")
        return self.choose(chosen, search, **filters) | {
            "runs": gr.update(choices=self.monitor.run_choices())
        }

    def ask_delete(self, chosen: str) -> Values:
        """Ask before a run is deleted."""
        return {"confirm_row": gr.update(visible=True), "question": cards.confirm(self._row(chosen))}

    def delete(self, chosen: str, search: str, shown: str, **filters: str | None) -> Values:
        """Delete a run permanently."""
        self.studio.library.delete(chosen)
        cleared = (
            self.monitor.nothing_shown()
            if shown == chosen
            else {"runs": gr.update(choices=self.monitor.run_choices())}
        )
        return (
            self.browse(search, "", **filters)
            | {"moved": gr.update(visible=False), "chosen": "", "detail": gr.update(visible=False)}
            | cleared
        )

    def open(self, chosen: str) -> Values:
        """Switch to the tab Train and show this run."""
        row = self._row(chosen)
        prompt = {"prompt": f"a photo of a {row.trigger}"} if row.trigger else {}
        return prompt | self.monitor.show_run(chosen) | {"tabs": gr.Tabs(selected="train")}

    def replay(self, chosen: str, speed: float) -> Values:
        """Switch to the tab Train and replay this run."""
        return self.monitor.play(chosen, speed) | {"tabs": gr.Tabs(selected="train")}

    def resume(self, chosen: str) -> Values:
        """Resume an interrupted run."""
        self.studio.training.resume(chosen)
        return self.open(chosen)

    def to_compare(self, chosen: str, compared: list[str]) -> Values:
        """Switch to the tab Compare and add this run."""
        kept = [run for run in compared if run != chosen]
        names = self.names()
        value = [*rows.kept(names, kept), chosen]
        return {
            "compared": gr.update(choices=rows.choices(names, value), value=value),
            "tabs": gr.Tabs(selected="compare"),
        }

    def names(
        self, *, method: str | None = "", base: str | None = "", order: str | None = ""
    ) -> dict[str, str]:
        """Return what can be compared: "" for the base model, then every run with an adapter, by id."""
        names = self.studio.library.names()
        usable = [row for row in self.rows("", method, base, order) if row.state in ("done", "stopped")]
        return {"": "Untouched base"} | {row.id: names.get(row.id, row.name) for row in usable}

    # What changed

    def moved(self, chosen: str) -> Values:
        """Show the method's views of this run, and offer the layers whose singular values changed."""
        layers = self.studio.inspection.shifted_layers(chosen)
        shown = views.drawn(self.studio.inspection.views(chosen))
        row = self._row(chosen)
        told = (
            f"{row.name}, {cards.method_of(row.method, row.source)}: its changes of the base model's weights."
        )
        return {
            "moved": gr.update(visible=True),
            "moved_heading": panels.heading("", "What changed", told),
            "views": shown or element("p", "There are no views for this run.", class_="hint"),
            "shift_row": gr.update(visible=bool(layers)),
            "layer": gr.update(choices=layers, value=None),
            "alike": gr.update(choices=self._others(chosen), value=[]),
        }

    def spectrum(self, chosen: str, layer: str) -> Values:
        """Draw the singular values of one layer before and after."""
        return {
            "spectrum": views.drawn([self.studio.inspection.spectrum(chosen, layer)]) if layer else Html("")
        }

    def likeness(self, chosen: str, alike: list[str]) -> Values:
        """Plot the correlation between this run's shifts and those of other runs."""
        return {
            "likeness": views.drawn([self.studio.inspection.correlation([chosen, *alike])])
            if alike
            else Html("")
        }

    def _others(self, chosen: str) -> list[tuple[str, str]]:
        """The other runs with spectral shifts, as (name, id)."""
        names = self.studio.library.names()
        return [
            (names.get(row.id, row.name), row.id)
            for row in self.rows()
            if row.kind == SPECTRAL and row.id != chosen
        ]

    # Combining

    def mixing(self, mix_how: str) -> Values:
        """Show the fields of the chosen combination method."""
        return {
            "mix_with": gr.update(visible=mix_how != "truncate"),
            "mix_share": gr.update(visible=mix_how == "interpolate"),
            "mix_rank": gr.update(visible=mix_how == "truncate"),
        }

    def combine(
        self,
        chosen: str,
        search: str,
        mix_how: str,
        mix_with: str | None,
        mix_share: float,
        mix_rank: int,
        **filters: str | None,
    ) -> Values:
        """Create a new run from the shifts of this one and another, and open it."""
        others = [mix_with] if mix_with and mix_how != "truncate" else []
        run_id = self.studio.library.combine([chosen, *others], how=mix_how, share=mix_share, rank=mix_rank)
        gr.Info(
            "The combined run is in the Library; it generates and exports like any other run.",
            title="Combined",
        )
        return self.choose(run_id, search, **filters)

    # Export, merge, import

    def export(self, chosen: str, lib_format: str, lib_rank: int) -> Values:
        """Export the adapter for another program and show the result of reading it back."""
        written, report = self.studio.import_export.verified_export(chosen, lib_format, rank=int(lib_rank))
        path = self.playground.exported_copy(chosen, written)
        verified = cards.element("p", f"Verified: {report}", class_="verified", role="status")
        return {"lib_exported": gr.update(value=str(path), visible=True), "verified": verified}

    def merge(self, chosen: str, merge_format: str, merge_strength: float) -> Values:
        """Merge the run into its base model and show the result of reading that back."""
        path, report = self.studio.import_export.merge_into_base(
            chosen, merge_format, strength=merge_strength
        )
        return {
            "merged_file": gr.update(value=str(self.copies.copy(path)), visible=True),
            "merged": cards.element("p", f"Verified: {report}", class_="verified", role="status"),
        }

    def inspect(self, lora: str | None) -> Values:
        """Show the header of a LoRA file before it is imported."""
        if not lora:
            return {"lora_facts": Html(""), "add_row": gr.update(visible=False)}
        header = self.studio.import_export.inspect_lora(Path(lora))
        return {
            "lora_facts": cards.header_of(header, name=Path(lora).name),
            "add_row": gr.update(visible=not header.get("problem")),
        }

    def add(self, lora: str, base: str) -> Values:
        """Import a LoRA file and open it in the playground."""
        values = self.playground.load_lora(lora, base)
        return values | {
            "lora_facts": Html(""),
            "add_row": gr.update(visible=False),
            "tabs": gr.Tabs(selected="train"),
        }

    def from_hub(self, hub_id: str, search: str, **filters: str | None) -> Values:
        """Load a LoRA from the Hugging Face Hub."""
        if not hub_id.strip():
            raise ValueError("The Hub id is empty; it looks like someone/something.")
        run_id = self.studio.import_export.load_from_hub(hub_id.strip())
        return self.choose(run_id, search, **filters) | {"hub_id": ""}

    def read_settings(self, settings_in: str, base: str, source: Values | None = None) -> Values:
        """Fill the form of the tab Train with another run's settings, and apply its captions to the photographs."""
        content = Path(settings_in).read_bytes()
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError("This is not a text file; choose a run.json saved from the Library.") from None
        settings = self.studio.library.read_settings(text)
        method, cls = settings["method"], method_config(settings["method"])
        config = (
            settings["config"] if isinstance(settings["config"], cls) else form.parse(cls, settings["config"])
        )
        rows = self.studio.presets.list(method, self.studio.inspection.base(base).family)
        plans = [(row.name, f"{method}/{row.name}") for row in rows if not row.own]
        plan = plans[0][1]
        gr.Info("The settings are filled in; add the photographs and press Personalize.", title="Imported")
        held = {"captions": settings["captions"], "repeats": settings.get("repeats", {})}
        moved = {
            "settings_in": None,
            "imported": held,
            "tabs": gr.Tabs(selected="train"),
            "method": method,
            "plan": gr.update(choices=plans, value=plan),
            "filled_plan": plan,
        }
        if source and not source["title"]:
            kept = {what: captions_for(held, photo_names(source), what=what) for what in held}
            moved["source"] = source | kept
        return form.filled(method, config) | own_fields(method) | moved


def _text(row: Card) -> str:
    fields = (
        row.name, row.trigger, cards.method_of(row.method, row.source), row.base_name, row.notes, row.origin,
    )  # fmt: skip
    return " ".join(str(each) for each in fields if each).lower() + f" {row.state}"


def _counted(rows: list[Card]) -> str:
    used = cards.size_of(sum(row.bytes for row in rows))
    return f"{len(rows)} {'run' if len(rows) == 1 else 'runs'} · {used}"
