"""HTML components of the page that Gradio has no widget for; each function returns escaped HTML."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.runs.costs import Cost
from pipelines.runs.names import method_title, moment
from pipelines.runs.status import Card, Measurement, QueueRow
from pipelines.runs.store import MIXED
from ui.html import BrowserCopies, Html, element
from ui.run.measures import measure
from ui.run.state import WORDS, RunView, Sample

if TYPE_CHECKING:
    from pipelines.config import TrainConfig
    from pipelines.models.inspection import BaseFacts

# The slider of a comparison is a range input, so that it also works with the keyboard.
COMPARE_SCRIPT = """
element.addEventListener('input', (event) => {
  const frame = event.target.closest('.compare');
  if (frame) frame.style.setProperty('--cut', event.target.value + '%');
});
"""


# HTML components with their own buttons: a press triggers a Gradio event.
# A list may be re-rendered between mouse down and mouse up; the browser then sends no click event.
ACTS_SCRIPT = """
const act = (button) => {
  if (button && ['choose', 'move', 'leave', 'open'].includes(button.dataset.act)) {
    trigger(button.dataset.act, {value: button.dataset.value});
  }
};
let pressed = null;
element.addEventListener('pointerdown', (event) => { pressed = event.target.closest('[data-act]'); });
element.addEventListener('pointerup', () => {
  if (pressed && !pressed.isConnected) act(pressed);
  pressed = null;
});
element.addEventListener('click', (event) => act(event.target.closest('[data-act]')));
"""
CUES = (
    "Choose one of the examples, or add your own photographs.",
    "Name its class with a common word: person, dog, teapot.",
    "Press Personalize; the samples change while it trains.",
    "Type any prompt with the trigger word and press Generate.",
)  # what the speaker does next


def header(*, icon: Html, base: str, facts: list[str]) -> Html:
    """Return the header: title, the base model, facts, and the switches for presentation mode and dark mode."""
    chosen = element("button", base, type="button", class_="chip base", title="Choose the base model")
    chips = [chosen, *(element("span", fact, class_="chip") for fact in facts)]
    switch = element(
        "span",
        element(
            "a",
            "Present",
            href="?presentation=1",
            class_="to-presentation",
            title="Presentation mode: large type for a projector",
        ),
        element("a", "Leave presentation mode", href="?", class_="from-presentation"),
        element("a", "Light", href="?__theme=light", class_="to-light"),
        element("a", "Dark", href="?__theme=dark", class_="to-dark"),
        class_="theme-switch",
    )
    return element(
        "header",
        element("span", icon, class_="mark", aria_hidden="true"),
        element("h1", "Atelier"),
        element("p", "Teach an image model your subject, then generate it anywhere.", class_="tagline"),
        element("div", element("span", class_="job-place"), *chips, switch, class_="chips"),
        class_="masthead",
    )


def heading(number: str, title: str, note: str = "") -> Html:
    """Return the title of a card, with a number if it is a step."""
    return element(
        "div",
        *([element("span", number, class_="step-number", aria_hidden="true")] if number else []),
        element("h2", title),
        *([element("p", note)] if note else []),
        class_="card-head",
    )


def compare(before: str, after: str, *, alt: str, labels: tuple[str, str] = ("Before", "After")) -> Html:
    """Return two pictures of equal size side by side; a button puts one above the other, with a slider between them.

    ``before`` and ``after`` are URLs that the browser can fetch.
    """
    return element(
        "div",
        element("img", src=before, alt=f"{labels[0]}: {alt}", class_="before", draggable="false"),
        element("img", src=after, alt=f"{labels[1]}: {alt}", class_="after", draggable="false"),
        element("span", labels[0], class_="tag left"),
        element("span", labels[1], class_="tag right"),
        element(
            "button",
            element("span", "Slider", class_="when-beside"),
            element("span", "Side by side", class_="when-slider"),
            type="button",
            class_="compare-view",
            title="Show the two pictures side by side, or one above the other with a slider",
        ),
        element("span", class_="cut", aria_hidden="true"),
        element(
            "input",
            type="range",
            min=0,
            max=100,
            value=50,
            step=0.5,
            aria_label=f"Drag between {labels[0].lower()} and {labels[1].lower()}",
        ),
        class_="compare",
    )


def single(picture: str, *, alt: str, label: str) -> Html:
    """Return one large picture in the frame of a comparison, if there is no second picture yet."""
    image = element("img", src=picture, alt=f"{label}: {alt}", class_="after")
    return element("div", image, element("span", label, class_="tag left"), class_="compare single")


def placeholder(text: str, *, command: str = "") -> Html:
    """Return an empty frame with a text that describes its later content, or the command that makes it."""
    code = [element("code", command)] if command else []
    return element("div", element("p", text, *code), class_="compare empty")


def hint(text: str) -> Html:
    """Return a line of small text."""
    return element("p", text, class_="hint")


def photograph_limits(facts: "BaseFacts") -> Html:
    """Return a base's limits with photographs, from ``Studio.inspection.bases``; empty for a base without limits."""
    return hint(facts.photographs) if facts.photographs else Html("")


def learned_from(view: RunView, *, copies: BrowserCopies) -> Html:
    """Return the training photographs of a run, dimmed outside their masks, and their composites with scenes."""
    photos = photo_wall(view.photos, copies=copies, title="Training photographs", masks=view.masks)
    return Html(photos + photo_wall(view.scenes, copies=copies, title="Placed in scenes"))


def photo_wall(
    photos: list[Path], *, copies: BrowserCopies, title: str, masks: Mapping[Path, Path] | None = None
) -> Html:
    """Return a subject's training photographs, with outlines where they have ``masks``; empty without photographs."""
    if not photos:
        return Html("")
    masked = masks or {}
    pictures = [
        element(
            "img",
            src=copies.outlined(photo, masked[photo])
            if photo in masked
            else copies.enlarged(photo, side_px=384),
            alt=f"Photograph {index} of the subject",
        )
        for index, photo in enumerate(photos, start=1)
    ]
    shown = "few" if len(photos) <= 4 else "many"
    return element(
        "div", element("h3", title), element("div", *pictures, class_=f"wall {shown}"), class_="photo-wall"
    )


def notes_of(notes: Sequence[str]) -> list[Html]:
    """Return notes for the user, each on its own line."""
    return [element("p", note, class_="note", role="status") for note in notes]


def caption(
    *, prompt: str, seed: int | None, facts: Sequence[tuple[str, str]] = (), notes: Sequence[str] = ()
) -> Html:
    """Return the caption of a picture: its prompt, its seed and further facts."""
    rows = [*([("Seed", str(seed))] if seed is not None else []), *facts]
    terms = [element("div", element("dt", name), element("dd", value)) for name, value in rows]
    told = [element("blockquote", prompt), *notes_of(notes), element("dl", *terms)]
    return element("div", *told, class_="caption", data_seed="" if seed is None else seed)


def progress(view: RunView) -> Html:
    """Return the progress of a run: state, bar, step, speed, time left and loss.

    For a run loaded from a file, or combined from others, only its origin is shown.
    """
    if view.imported:
        return element(
            "div",
            _title(
                "Combined from other runs" if view.config.get("source") == MIXED else "Loaded from a file",
                view=view,
            ),
            class_="run-progress",
        )
    share = view.step / view.total if view.total else 0.0
    doing = view.stage if view.moving and view.stage else ""
    if doing:
        share = view.stage_done / view.stage_total if view.stage_total else 0.0
    words = (
        f"{doing} ({view.stage_done} of {view.stage_total})" if doing else WORDS.get(view.state, view.state)
    )
    if view.state == "replaying" and doing:
        words = f"{WORDS[view.state]} · {words}"
    if view.state == "queued" and view.queue_position:
        words += f" · number {view.queue_position} in the queue"
    bar = element(
        "div",
        element("div", style=f"width:{100 * min(share, 1.0):.1f}%", class_="bar-fill"),
        class_="bar",
        role="progressbar",
        aria_label="Progress of the run",
        aria_valuemin=0,
        aria_valuemax=100,
        aria_valuenow=round(100 * min(share, 1.0)),
    )
    trouble = (
        [element("p", view.message, class_="trouble")] if view.state == "failed" and view.message else []
    )
    return element(
        "div",
        _title(words, view=view),
        bar,
        element("dl", *_figures(view), class_="figures"),
        *trouble,
        *notes_of(view.notes),
        class_="run-progress",
    )


def cue(text: str) -> Html:
    """Return what the speaker says or does on a page, for presentation mode."""
    return element("p", text, class_="guide")


def guide(current: int) -> Html:
    """Return the speaker's cue: what to do next, as step ``current`` (1 to 4) of a first run."""
    number = element("span", str(current), class_="step-number", aria_hidden="true")
    return element("p", number, CUES[current - 1], class_="guide")


def advice(view: RunView) -> Html:
    """Return advice for a failed or interrupted run; an empty string for any other."""
    if view.state == "interrupted":
        lines = ["The program ended during this run.", "Resume continues from its last checkpoint."]
    elif view.state == "failed":
        again = "from its last checkpoint" if view.step else "from its photographs"
        lines = [
            f"“Try again” continues {again}.",
            "If it fails at the same step, choose the preset Quick or fewer photographs, and personalize again.",
            "Meanwhile, the replay of an example shows what to expect.",
        ]
    else:
        return Html("")
    return element(
        "div",
        element("h3", "What next"),
        element("ul", *[element("li", line) for line in lines]),
        class_="advice",
    )


def prompt_hint(view: RunView) -> Html:
    """Return a hint with the trigger words of the subject; an empty string for a run without trigger words."""
    word, kind = (str(view.config.get(name) or "").strip() for name in ("identifier", "class_noun"))
    if not word:
        return Html("")
    return element(
        "p", "Your subject is called “", element("b", f"{word} {kind}".strip()), "” here.", class_="hint"
    )


def recalled(sample: dict[str, Any], *, stack: Sequence[dict[str, Any]], base: str) -> Html:
    """Return the restored settings of a picture in one line."""
    made = (
        " and ".join(
            f"{entry['name']} at strength {entry['strength']:g}"
            + (f" after step {entry['step']}" if entry.get("step") is not None else "")
            + (" and with block weights" if entry.get("blocks") else "")
            for entry in stack
        )
        or "the untouched base"
    )
    text = f"Restored: seed {sample.get('seed', 0)}, {made}, on {base}."
    return element("p", text, class_="hint", role="status")


def stand_in(view: RunView) -> Html:
    """Return the notice that a recording is shown because the live run failed."""
    why = f" ({view.message})" if view.message else ""
    return element(
        "div",
        element("p", f"The live run failed{why}. This is the recording of an example."),
        class_="advice",
    )


def queue(
    rows: Sequence[QueueRow],
    *,
    shown: str,
    runs: Mapping[str, Card] | None = None,
    measuring: Sequence[Measurement] = (),
) -> Html:
    """Return the running and queued runs; an empty string if the ``shown`` run is all there is.

    ``runs`` are the cards of these runs by id, ``measuring`` the measurements of experiments that are being made.
    """
    if not measuring and [row.run for row in rows] in ([], [shown]):
        return Html("")
    last = max((row.position for row in rows), default=0)
    lines = [_measuring_row(each) for each in measuring]
    lines += [_queue_row(row, last=last, shown=shown, card=(runs or {}).get(row.run)) for row in rows]
    head = element("tr", *[element("th", word, scope="col") for word in ("Place", "Run", "Time left", "")])
    return element(
        "div",
        element("h3", "Queue"),
        element("table", element("thead", head), element("tbody", *lines)),
        class_="queue",
        tabindex=-1,
        role="region",
        aria_label="Queue",
    )


def _measuring_row(measured: Measurement) -> Html:
    name = _act("open", measured.experiment, measured.name, f"Open the experiment {measured.name}")
    return element(
        "tr",
        element("td", "running"),
        element("td", name, element("small", f" measuring {measured.row}")),
        element("td", f"{measured.done} of {measured.total} prompts"),
        element("td"),
    )


def _queue_row(row: QueueRow, *, last: int, shown: str, card: Card | None) -> Html:
    place, run_id, waits = row.position, row.run, row.state == "queued"
    buttons = []
    if waits:
        for word, sign, to in (("earlier", "↑", place - 1), ("later", "↓", place + 1)):
            buttons.append(
                _act("move", f"{run_id}:{to}", sign, f"Move {row.name} {word}", disabled=not 1 <= to <= last)
            )
        buttons.append(_act("leave", run_id, "✕", f"Remove {row.name} from the queue"))
    name = _act("choose", run_id, row.name, f"Show {row.name}")
    if card is not None:
        facts = [
            method_title(card.method),
            card.preset,
            moment(card.created, seconds=True),
        ]
        name = Html(name + element("small", " " + " · ".join(filter(None, facts))))
    waits_for = [element("small", f" after {', '.join(row.waits_for)}")] if row.waits_for else []
    return element(
        "tr",
        element("td", str(place) if waits else f"running · {row.device}" if row.device else "running"),
        element("td", name, *waits_for),
        element("td", duration(row.seconds_left)),
        element("td", *buttons, class_="queue-acts"),
        class_="shown" if run_id == shown else "",
    )


def _act(act: str, value: str, words: str, label: str, *, disabled: bool = False) -> Html:
    return element(
        "button",
        words,
        type="button",
        data_act=act,
        data_value=value,
        aria_label=label,
        title=label,
        disabled=disabled,
    )


def _title(words: str, *, view: RunView) -> Html:
    return element(
        "div",
        element("span", class_=f"dot {view.state}", aria_hidden="true"),
        element("strong", words),
        element("span", view.name, class_="run-name"),
        class_="run-title",
        role="status",
    )


def _figures(view: RunView) -> list[Html]:
    first = next(iter(view.terms.values()), [])
    recent = [value for _, value in first[-20:]]
    speed = view.seconds_per_step
    left = duration(view.eta_s) if view.eta_s is not None else "–"
    figures: list[tuple[str, str]] = [
        ("Step", f"{view.step} / {view.total}"),
        ("Per step", (f"{1000 * speed:.0f} ms" if speed < 1 else f"{speed:.1f} s") if speed else "–"),
        *([("Time left", left)] if view.moving else []),
        ("Loss", f"{sum(recent) / len(recent):.4f}" if recent else "–"),
    ]
    alike = view.similarity.get("identity")
    if alike:
        figures.append((measure("likeness"), f"{alike[-1][1]:.2f}"))
    return [element("div", element("dt", name), element("dd", value)) for name, value in figures]


def size_of(count: float | None) -> str:
    """Return a number of bytes in readable form: "3.2 MB"."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def duration(seconds: float) -> str:
    """Return a duration in readable form: "40 s", "3 min 20 s", "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    if whole < 5400:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def strip(view: RunView, *, copies: BrowserCopies, columns: int = 8) -> Html:
    """Return the samples as a table with a row per prompt and a column per step, beginning with the base model."""
    if not view.samples and not view.moving:
        return Html("")
    if not view.samples:
        return element(
            "div", "The first row of samples is generated before the first step.", class_="strip-empty"
        )
    steps = _spread(sorted({sample.step for sample in view.samples}), most=columns)
    ahead = min(view.rows_ahead, columns - len(steps))
    cells = {(sample.row, sample.step): sample for sample in view.samples}
    words = [*(_step_word(step, view=view) for step in steps), *([""] * ahead)]
    head = element("tr", *[element("th", word, scope="col") for word in words])
    rows = []
    for first in view.row_firsts:
        pictures = [_cell(cells.get((first.row, step)), copies=copies) for step in steps]
        pictures += [_cell(None, copies=copies)] * ahead
        prompt_cell = element(
            "td", f"“{first.prompt}” · seed {first.seed}", colspan=len(words), class_="strip-prompt"
        )
        rows += [element("tr", *pictures), element("tr", prompt_cell)]
    table = element(
        "table",
        element("thead", head),
        element("tbody", *rows),
        style=f"min-width:{84 * len(words)}px; max-width:{260 * len(words)}px",
    )
    return element(
        "div",
        element("h3", "Samples during training"),
        element("div", table, class_="strip-scroll"),
        class_="strip",
    )


def _spread(steps: list[int], *, most: int) -> list[int]:
    if len(steps) <= most:
        return steps
    return [steps[round(index * (len(steps) - 1) / (most - 1))] for index in range(most)]


def _step_word(step: int, *, view: RunView) -> str:
    return "before" if step == 0 else f"step {step}" if step < view.total else f"step {step} · end"


def _cell(sample: Sample | None, *, copies: BrowserCopies) -> Html:
    if sample is None or not sample.file.exists():
        return element("td", element("span", class_="gap"))
    address = copies.url(sample.file)
    alt = f"{sample.prompt}, after step {sample.step}, seed {sample.seed}"
    return element(
        "td", element("a", element("img", src=address, alt=alt), href=address, target="_blank", title=alt)
    )


def cost(estimate: Cost | None) -> Html:
    """Return the estimated cost of a run; None if there are no photographs yet."""
    if estimate is None:
        return element("p", "Choose an example or add your own photographs first.", class_="cost")
    memory = estimate.memory_mb
    parts = [
        f"about {duration(estimate.seconds)}",
        f"{memory / 1024:.1f} GB memory" if memory >= 1000 else f"{memory:.0f} MB memory",
        f"{estimate.disk_mb:.0f} MB disk" if estimate.disk_mb >= 1 else "under 1 MB disk",
        f"a file of {size_of(1e6 * estimate.file_mb)}",
    ]
    return element("p", *[element("span", part) for part in parts], class_="cost")


def choice_told(about: str, costs: str) -> Html:
    """Return one line that says what a choice is and what it costs."""
    return element("p", about, " ", element("span", costs, class_="costs"), class_="choice-told")


def preset_told(name: str, config: "TrainConfig", estimate: Cost) -> Html:
    """Return one line about a preset as it is filled in: its steps, and the time that it takes."""
    each = f"{config.batch_size} photographs each" if config.batch_size > 1 else "1 photograph each"
    known = "measured on this machine" if estimate.measured else "estimated"
    return choice_told(
        f"{name}: {config.steps} steps, {each}.", f"About {duration(estimate.seconds)}, {known}."
    )


def base_needs(facts: "BaseFacts") -> Html:
    """Return the requirements of a base model."""
    ready = "Cannot be used" if facts.problem else "Ready" if facts.present else "Not downloaded yet"
    told = element("strong", ready, class_="trouble" if facts.problem else "")
    return element("p", told, f" · {facts.needs}", class_="base-needs", role="status", data_base=facts.name)
