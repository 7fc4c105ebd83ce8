"""The tab Compare: runs, stacks of two runs and the base model side by side, from the same noise."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from pipelines.config import SampleConfig
from pipelines.sampling.grid import MOST, column_head
from pipelines.sampling.stack import MAX_STRENGTH
from ui import forms as form
from ui.run import cards, panels
from ui.run.monitor import Values
from ui.tabs.compare import rows
from ui.tabs.compare.experiment_handlers import ExperimentHandlers
from ui.tabs.library import order
from ui.tabs.library.handlers import LibraryHandlers
from ui.tabs.train import stack as stacking
from ui.wiring import Page

ACROSS = (
    ("Prompts", "prompts"),
    ("Seeds", "seeds"),
    ("Strengths", "strengths"),
    ("Strengths of the second run", "second"),
)
SUBJECT = "{identifier} {class_noun}"
OWN_WORDS = "{identifier} and {class_noun} are replaced by each run's own words."
OPENING = {
    "prompts": f"a photo of a {SUBJECT}\na photo of a {SUBJECT} on the beach\na photo of a {SUBJECT} in the forest",
    "seeds": "0, 1, 2, 3",
    "strengths": "0, 0.5, 1, 1.5",
    "second": "0, 0.5, 1, 1.5",
}
LABELS = {
    "prompts": "Prompts, one per line",
    "seeds": "Seeds, separated by commas",
    "strengths": "Strengths of the whole row, separated by commas",
    "second": "Strengths of the second run of each stack, separated by commas",
}
EMPTY = "The pictures appear here, one row per run."
STACKED = ["stack_first", "stack_first_strength", "stack_second", "stack_second_strength", "stack_part"]
FILTERS = ["of_method", "of_base", "of_order"]
OWN_FIELDS = [name for name in form.field_names(SampleConfig) if name not in ("prompt", "count")]


class CompareHandlers:
    """Handlers of the comparison. They take widget values by name and return new ones by name."""

    def __init__(self, library: LibraryHandlers) -> None:
        self.library = library
        self.studio = library.studio
        self.copies = library.copies

    def refresh(self, compared: list[str], **filters: str | None) -> Values:
        """Update the choices: the runs that pass the filters, those already chosen, and the stacks made of them."""
        names = self.library.names()
        kept = rows.kept(names, compared)
        wanted = self.library.names(**{name.removeprefix("of_"): value for name, value in filters.items()})
        shown = wanted | {run: names[run] for run in kept if run in names}
        choices = rows.choices(shown, [row for row in kept if row not in shown], of=names)
        return {"compared": gr.update(choices=choices, value=kept)}

    def offer_filters(self, compared: list[str], **filters: str | None) -> Values:
        """Update the choices, and the methods and bases to filter by."""
        found = self.studio.library.list_runs(shipped=True)
        asked = {name: filters.get(f"of_{name}") for name in ("method", "base")}
        values = order.offered(found, prefix="of_", **asked)
        given = {name: update["value"] for name, update in values.items()}
        return values | self.refresh(compared, **filters | given)

    def offer(self) -> Values:
        """Update the runs that can be part of a stack."""
        runs = [(name, run) for run, name in self.library.names().items() if run]
        return {name: gr.update(choices=runs) for name in ("stack_first", "stack_second")}

    def add_stack(self, compared: list[str], **chosen: Any) -> Values:
        """Add a row that combines two runs."""
        row = rows.stacked(**{name.removeprefix("stack_"): value for name, value in chosen.items()})
        return self.refresh([*(each for each in compared if each != row), row])

    def choose_columns(self, columns: str) -> Values:
        """Switch the columns to prompts, seeds, strengths, or strengths of the second run."""
        return {
            "values": gr.update(
                label=LABELS[columns], value=OPENING[columns], info=OWN_WORDS if columns == "prompts" else ""
            ),
            "compare_prompt": gr.update(visible=columns != "prompts"),
        }

    def compare(
        self,
        compared: list[str],
        columns: str,
        values: str,
        compare_prompt: str,
        progress: Callable[..., Any],
        **fields: Any,
    ) -> Values:
        """Generate the grid and fill the table."""
        if not compared:
            raise ValueError("No row is chosen; choose a run, or the untouched base.")
        asked = parsed(values, across=columns)
        config = form.parse(
            SampleConfig, {**fields, "prompt": compare_prompt if columns != "prompts" else ""}
        )

        def tell(done: int, total: int) -> None:
            progress((done, total), desc="Drawing", unit="pictures")

        made = self.studio.generation.compare(
            [rows.asked(row) for row in compared], across=columns, values=asked, config=config, progress=tell
        )
        names = [row["name"] for row in made["rows"]]
        heads = [column_head(value, across=columns).replace(SUBJECT, "⟨subject⟩") for value in asked]
        alts = [[f"{name}, {head}" for head in heads] for name in names]
        pictures = cards.grid(made["cells"], names=names, heads=heads, alts=alts, copies=self.copies)
        prompt = "" if columns == "prompts" else compare_prompt.replace(SUBJECT, "⟨subject⟩")
        under = ["strength 1"] if columns in ("prompts", "seeds") else []
        under += [] if columns == "seeds" else [f"seed {config.seed}"]
        return {
            "grid": pictures,
            "grid_caption": cards.element(
                "p",
                " · ".join([*([f"“{prompt}”"] if prompt else []), *under, "the same noise in each column"]),
                class_="hint",
            ),
            "metrics": cards.metrics(made["rows"]),
            "grid_files": gr.update(visible=True),
            "grid_png": str(self.copies.copy(made["grid"])),
            "grid_json": str(self.copies.copy(made["json"])),
        }

    def interrupt(self) -> Values:
        """Stop the comparison that is being generated."""
        self.studio.generation.interrupt()
        return {}


def parsed(values: str, *, across: str) -> list[Any]:
    """Return the columns that were typed. Raises ValueError for anything that is not a number."""
    if across == "prompts":
        return [line.strip() for line in values.splitlines() if line.strip()]
    kind, word = (int, "seed") if across == "seeds" else (float, "strength")
    found = []
    for text in values.replace("\n", ",").split(","):
        if not text.strip():
            continue
        try:
            found.append(kind(text))
        except ValueError:
            raise ValueError(
                f"{text.strip()[:40]!r} is not a {word}; type numbers separated by commas."
            ) from None
    return found


def lay_out(page: Page) -> None:
    """Create the widgets of this tab in the current Blocks context."""
    named = page.named
    names = page.library.names()
    opening = list(names)[:3]
    sampling = SampleConfig()
    with gr.Row(elem_classes="page", equal_height=False) as named["side_by_side"]:
        with (
            gr.Column(scale=4, min_width=330, elem_classes="inputs"),
            gr.Column(elem_classes="card", elem_id="compare-form"),
        ):
            gr.HTML(panels.heading("", "Compare", "One row per run, from the same noise."))
            named["compared"] = gr.Dropdown(
                [(name, run) for run, name in names.items()],
                value=opening,
                multiselect=True,
                label="Rows",
                max_choices=MOST,
            )
            with gr.Accordion("Filter and sort the runs", open=False, elem_id="compare-filters"):
                found = page.library.studio.library.list_runs(shipped=True)
                named |= order.lay_out(found, prefix="of_")
            _stack(page)
            named["columns"] = gr.Radio(list(ACROSS), value="prompts", label="Columns", elem_id="across")
            named["values"] = gr.Textbox(
                OPENING["prompts"],
                label=LABELS["prompts"],
                lines=4,
                max_lines=8,
                info=OWN_WORDS,
            )
            named["compare_prompt"] = gr.Textbox(
                f"a photo of a {SUBJECT} on the beach",
                label="Prompt",
                info=OWN_WORDS,
                max_lines=2,
                visible=False,
            )
            with gr.Accordion("Advanced", open=False):
                made = form.widgets(sampling, OWN_FIELDS)
                named |= {f"compare_{name}": widget for name, widget in made.items()}
            with gr.Row():
                named["draw_grid"] = gr.Button("Compare", variant="primary", scale=3)
                named["end_grid"] = gr.Button("Stop", min_width=70, scale=1, elem_classes="stops")
        with (
            gr.Column(scale=8, min_width=330, elem_classes="stage"),
            gr.Column(elem_classes="card", elem_id="grid-card"),
        ):
            recorded = ExperimentHandlers(page.library).recorded()
            named["grid"] = gr.HTML(recorded or panels.placeholder(EMPTY))
            named["grid_caption"] = gr.HTML("")
            named["metrics"] = gr.HTML("")
            with gr.Row(visible=False) as named["grid_files"]:
                named["grid_png"] = gr.DownloadButton("Download the pictures (PNG)", size="md")
                named["grid_json"] = gr.DownloadButton("Download the figures (JSON)", size="md")


def _stack(page: Page) -> None:
    """A row of two runs, for example a character and a style."""
    named = page.named
    strength: dict[str, Any] = {"minimum": 0, "maximum": MAX_STRENGTH, "value": 1.0, "step": 0.05}
    parts = [choice for choice in stacking.CHOICES if choice[1] != stacking.OWN]
    with gr.Accordion("Two runs in one row", open=False, elem_id="stack-row") as named["stack_row"]:
        named["stack_first"] = gr.Dropdown([], label="First run", info="Its trigger word fills the prompt.")
        named["stack_first_strength"] = gr.Slider(**strength, label="Strength of the first run")
        named["stack_second"] = gr.Dropdown([], label="With", info="For example a style for your character.")
        named["stack_second_strength"] = gr.Slider(**strength, label="Strength of the second run")
        named["stack_part"] = gr.Dropdown(parts, value="all", label="Blocks of the second run to apply")
        named["add_stack"] = gr.Button("Add this row", size="md")


def wire(page: Page) -> None:
    """Connect the events of this tab."""
    comparison, named = CompareHandlers(page.library), page.named
    page.on(named["stack_row"].expand, comparison.offer, gives=["stack_first", "stack_second"])
    page.on(
        named["add_stack"].click,
        comparison.add_stack,
        takes=["compared", *STACKED],
        gives=["compared"],
    )
    filtering: dict[str, Any] = {"takes": ["compared", *FILTERS]}
    offered = ["compared", *FILTERS[:2]]
    page.on(named["tab_compare"].select, comparison.offer_filters, **filtering, gives=offered)
    asked = partial(gr.on, [named[name].input for name in FILTERS])
    page.on(asked, comparison.refresh, **filtering, gives=["compared"], trigger_mode="always_last")
    page.on(
        named["columns"].change,
        comparison.choose_columns,
        takes=["columns"],
        gives=["values", "compare_prompt"],
    )

    def compare(**given: Any) -> Values:
        return comparison.compare(
            **{
                name.removeprefix("compare_") if name != "compare_prompt" else name: value
                for name, value in given.items()
            }
        )

    page.on(
        named["draw_grid"].click,
        compare,
        takes=[
            "compared",
            "columns",
            "values",
            "compare_prompt",
            *(f"compare_{name}" for name in OWN_FIELDS),
        ],
        gives=["grid", "grid_caption", "metrics", "grid_files", "grid_png", "grid_json"],
        reports_progress=True,
        concurrency_id="pictures",
        concurrency_limit=4,
        busy="grid",
    )
    page.on(named["end_grid"].click, comparison.interrupt, gives=[], concurrency_limit=None)
