"""Shows a run: live, reloaded or replayed. Handlers take widget values by name and return new values by name."""

import html
import time
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.fields import fill_words
from ui.html import BrowserCopies, Html
from ui.run import charts as plots
from ui.run import panels
from ui.run.prompt_words import below_prompt
from ui.run.replay import OVER, Replay, playable, replayed
from ui.run.state import LIVE, WORDS, RunView, fold

if TYPE_CHECKING:
    from pipelines.studio import Studio

Values = dict[str, Any]
LABELS = ("Before", "After")
PARTS = (
    "state",
    "progress",
    "curves",
    "samples",
    "queue",
    "result",
)  # the parts of a run on the page that are rendered separately
RESULTS = [
    "drawn_result",
    "result",
    "result_caption",
    "gallery",
    "download",
]  # a picture and the run it belongs to
EMPTY_RESULT = "Your picture appears here."
EMPTY_UNET_MAP = "Generates the picture with all blocks, and once without each of the nine blocks."
FIGURES = ("drawn", "progress", "loss", "similarity")  # the parts that a tick renders
REPLAY_POLL_S = 0.4
AT_WORK = ("sample_now", "save_now", "stop_later")  # buttons that act on a run between two steps
FORGET, FORGET_IT = "Discard …", "Discard permanently"  # the second press confirms
SUBJECT_PROMPT = "a photo of a {identifier} {class_noun}"
GONE = "This run has been deleted. Choose a subject or another run."
DRAWN_SOON = "The first samples are being generated …"
WITHOUT_PICTURES = {
    "queued": "This run is in the queue.",
    "running": DRAWN_SOON,
    "replaying": DRAWN_SOON,
    "stopping": "This run stopped before its first samples.",
    "failed": "This run failed before its first samples.",
    "interrupted": "This run was interrupted before its first samples.",
}


class RunMonitor:
    """Shows one run at a time; bound to one Studio and to the copies that browsers may fetch."""

    def __init__(self, studio: "Studio", copies: BrowserCopies) -> None:
        self.studio = studio
        self.copies = copies
        self.examples = {example["name"]: example for example in studio.library.examples(tab="train")}
        self.shipped = {example["run"]: example["title"] for example in studio.library.examples()}
        self._warmed = False

    def show_run(self, run_id: str) -> Values:
        """Show a run and render all its parts."""
        if not run_id:
            return {}
        values = self.watch(run_id, {})
        return (
            values
            | {
                "shown": run_id,
                "recalled": Html(""),
                "recalled_steps": {},
                "runs": gr.update(choices=self.run_choices(), value=run_id),
            }
            | unplayed()
        )

    def turn_to(self, run_id: str, shown: str = "") -> Values:
        """Show a run, unless it is already ``shown``, and fill in a prompt with its trigger words."""
        if not run_id or run_id == shown:
            return {}
        config = self.studio.training.status(run_id)["config"]
        word, kind = (str(config.get(name) or "") for name in ("identifier", "class_noun"))
        template = [SUBJECT_PROMPT, *(config.get("sample_prompts") or ())][-1]
        prompt = fill_words(template, identifier=word, class_noun=kind)
        return {"prompt": prompt, "seed": int(config.get("sample_seed") or 0)} | self.show_run(run_id)

    def run_choices(self) -> list[tuple[str, str]]:
        """Return (label, run id) of every run that can be shown, the user's own first."""
        names = self.studio.library.names(mark_examples=True)
        runs = self.studio.library.list_runs()
        own = [(f"{names.get(run.id, run.name)} · {WORDS[run.state].lower()}", run.id) for run in runs]
        return own + [(names[run], run) for run in self.shipped if run in names]

    def attach(self, *, queued: bool = True) -> Values:
        """Show the running run, or the first ``queued`` one, when the page is loaded: a reload changes nothing."""
        if not self._warmed:
            self._warmed = True
            self.studio.warm()
        run_id = self._run_at_work(queued=queued)
        return self.turn_to(run_id) if run_id else {"runs": gr.update(choices=self.run_choices())}

    def _run_at_work(self, *, queued: bool = True) -> str:
        """Return the running run, or else the first ``queued`` one; "" if there is none."""
        live = [run for run in self.studio.library.list_runs() if run.state in LIVE]
        working = next((run.id for run in live if run.state != "queued"), "")
        return working or (live[-1].id if live and queued else "")

    def at_work(self, run_id: str) -> bool:
        """Return whether a run is queued or running."""
        return run_id in {row.run for row in self.studio.training.queue()}

    def tick(
        self, shown: str, drawn: Values, news: int, replay: Replay | None = None, presentation: bool = False
    ) -> Values:
        """Render the figures that changed; for a larger change, only increment ``news``.

        Each output widget of this event costs the browser time every second, even if it does not change.
        """
        values = self.watch(shown, drawn, replay, presentation)
        return values if values.keys() <= set(FIGURES) else {"news": news + 1}

    def watch(
        self, shown: str, drawn: Values, replay: Replay | None = None, presentation: bool = False
    ) -> Values:
        """Render the parts of the shown run that changed since ``drawn``; if no run is shown, show the running one.

        ``drawn`` stores, for each of ``PARTS``, the run and the rendered state; the result contains the updated parts.
        """
        if not shown:
            run_id = self._run_at_work()
            return self.show_run(run_id) if run_id else {}
        try:
            status = self.studio.training.status(shown)
        except ValueError:
            return self.nothing_shown()
        over: Values = {}
        if replay is not None and replay.run == shown:
            status, ended = replayed(status, replay, now=time.monotonic())
            over = unplayed() if ended else {}
        view = fold(status)
        if presentation and view.state == "failed" and (recording := self.recording(view.config)):
            return self.play(recording, 4.0) | {"advice": panels.stand_in(view)}
        values = self._draw(view, drawn)
        if over:
            values.pop("advice", None)  # the notice remains after the recording ends
        return values | over

    def _draw(self, view: RunView, drawn: Values) -> Values:
        waiting = self.studio.training.queue()
        line = [[row.run, row.state, round(row.seconds_left / 15)] for row in waiting]
        line += [[each.experiment, each.row, each.done] for each in self.studio.experiments.measuring()]
        now: Values = {part: [view.id, facts] for part, facts in (_signature(view) | {"queue": line}).items()}
        now["result"] = drawn.get("result") if drawn.get("result") == [view.id] else None
        changed = {part for part in PARTS if (drawn.get(part) or None) != now[part]}
        values: Values = {"drawn": {part: now[part] for part in changed}} if changed else {}
        if changed & {"state", "queue"}:
            values["seen"] = [view.id, view.state, *[row[:2] for row in line]]
        if "progress" in changed:
            values["progress"] = panels.progress(view)
        if "curves" in changed:
            values |= {"loss": plots.loss_chart(view), "similarity": plots.similarity_chart(view)}
        if "samples" in changed:
            values |= self._pictures(view)
        if "queue" in changed:
            values["queue"] = self.queue(view.id)
        if "result" in changed:  # the picture belongs to another run
            values |= no_result()
        if "state" in changed:
            values |= self.state(view)
            values["runs"] = gr.update(choices=self.run_choices(), value=view.id)
        return values

    def nothing_shown(self, text: str = GONE) -> Values:
        """Clear everything that belongs to the shown run."""
        return {
            "shown": "",
            "drawn": dict.fromkeys(PARTS),
            "run_card": gr.update(visible=False),
            "start_row": gr.update(visible=True),
            "stop_row": gr.update(visible=False),
            "runs": gr.update(choices=self.run_choices(), value=None),
            "guide": panels.guide(1),
            "queue": self.queue(""),
            "compare": panels.placeholder(text),
            "playground": gr.update(visible=False),
            **dict.fromkeys(("photos", "caption", "advice", "strip", "prompt_hint"), Html("")),
            **no_result(),
            **unplayed(),
        }

    def _pictures(self, view: RunView) -> Values:
        values: Values = {
            "strip": panels.strip(view, copies=self.copies),
            "photos": panels.learned_from(view, copies=self.copies),
        }
        if not view.samples:
            text = WITHOUT_PICTURES.get(view.state, "Generate a picture with it in the playground.")
            return values | {"compare": panels.placeholder(text), "caption": Html("")}
        return values | self.comparison(view)

    def comparison(self, view: RunView) -> Values:
        """Return the before/after comparison of a run: its first and latest sample of the same prompt and seed."""
        pair = view.pair()
        if pair is None:
            return {}
        first, latest = pair
        before, after = LABELS
        facts = [("Subject", view.name), ("Steps", f"{latest.step} of {view.total}")]
        if latest.step == 0:
            drawn = panels.single(self.copies.enlarged(first.file), alt=first.prompt, label=before)
        else:
            drawn = panels.compare(
                self.copies.enlarged(first.file),
                self.copies.enlarged(latest.file),
                alt=latest.prompt,
                labels=(before, after if latest.step >= view.total else f"After {latest.step} steps"),
            )
        return {
            "compare": drawn,
            "caption": panels.caption(prompt=latest.prompt, seed=latest.seed, facts=facts),
        }

    def state(self, view: RunView) -> Values:
        """Return which controls are visible for the state of a run."""
        shipped = view.id in self.shipped
        kept = view.state in ("done", "stopped") and view.step > 0
        unfinished = view.state in ("interrupted", "failed") or (
            view.state == "stopped" and view.step < view.total
        )
        playing = view.state == "replaying"
        ended = view.state in OVER
        return {
            "run_card": gr.update(visible=True),
            "start_row": gr.update(visible=not view.live),
            "stop_row": gr.update(visible=view.live),
            "after_row": gr.update(visible=ended and not shipped),
            "resume": gr.update(
                visible=unfinished, value="Try again" if view.state == "failed" else "Resume"
            ),
            "more_row": gr.update(visible=kept),
            "replay_row": gr.update(visible=ended and not view.imported and bool(view.samples or view.step)),
            "replaying_row": gr.update(visible=playing),
            "charts": gr.update(visible=not view.imported),
            "playground": gr.update(visible=True),
            **{name: gr.update(interactive=view.state == "running") for name in AT_WORK},
            "advice": panels.advice(view),
            "forget": FORGET,
            "prompt_hint": self.prompt_words(view),
            "guide": panels.guide(4 if kept or playing else 3),
        }

    def prompt_words(self, view: RunView, *others: str) -> Html:
        """Return what is shown below the prompt of a run; ``others`` are further runs whose words it may contain."""
        hint, noun = panels.prompt_hint(view), str(view.config.get("class_noun") or "")
        try:
            words = self.studio.inspection.prompt_words(view.id, *others)
        except ValueError:  # deleted meanwhile
            return hint
        return below_prompt(words, hint=hint, noun=noun)

    # Replay

    def play(self, shown: str, speed: float) -> Values:
        """Replay a finished run from its first event."""
        if not shown or not playable(self.studio.training.status(shown)):
            raise ValueError("This run has no steps to replay; choose one that was trained here.")
        replay = Replay(shown, float(speed), time.monotonic())
        values = {"replay": replay, "timer": gr.Timer(REPLAY_POLL_S, active=True)} | self.watch(
            shown, {}, replay
        )
        return values | {
            "shown": shown,
            "runs": gr.update(choices=self.run_choices(), value=shown),
        }

    def end_replay(self, shown: str) -> Values:
        """Show the whole run again."""
        return self.show_run(shown)

    def recording(self, config: Values) -> str:
        """Return the shipped run to replay if a run with this config fails; "" when none is shipped."""
        runs = {example["class_noun"]: example["run"] for example in reversed(self.examples.values())}
        return runs.get(str(config.get("class_noun", "")), next(reversed(runs.values()), ""))

    # The queue

    def queue(self, shown: str) -> Html:
        """Return the running and queued runs with their methods, presets and times."""
        rows = self.studio.training.queue()
        cards = {run.id: run for run in self.studio.library.list_runs()} if rows else {}
        return panels.queue(rows, shown=shown, runs=cards, measuring=self.studio.experiments.measuring())

    def started(self, run_id: str, shown: str = "", **words: Any) -> Values:
        """Show a run that was just started, with its ``words``. If it has to wait, stay with the running one and say so."""
        rows = {row.run: row for row in self.studio.training.queue()}
        running = [row.run for row in rows.values() if row.position == 0]
        free = len(self.studio.resources.devices.all) - len(running)
        if run_id not in rows or run_id in running or not running or free > 0:
            return words | self.show_run(run_id)
        row = rows[run_id]
        told = f"“{row.name}” is number {row.position} in the queue; the page stays with the running run."
        gr.Info(html.escape(told, quote=False), title="In the queue")
        if shown in running:
            return {"queue": self.queue(shown), "runs": gr.update(choices=self.run_choices(), value=shown)}
        return self.show_run(running[0])

    def open(self, value: str, shown: str) -> Values:
        """Open what the job chip names: the queue with its running run on the tab Train, or a run that has ended."""
        kind, _, named = value.partition(":")
        if kind == "experiment":
            return self.open_experiment(named)
        run_id = self._run_at_work() or named
        if not run_id:  # the last run has just been discarded
            return {}
        return {"tabs": gr.Tabs(selected="train")} | self.turn_to(run_id, shown)

    def open_experiment(self, experiment_id: str) -> Values:
        """Open an experiment that is being measured on the tab Compare."""
        kind = self.studio.experiments.status(experiment_id)["kind"]
        return {"tabs": gr.Tabs(selected="compare"), "experiment_mode": kind}

    def move(self, shown: str, value: str) -> Values:
        """Move a queued run to another position; ``value`` is its id and the position, such as "…:1"."""
        run_id, _, place = value.partition(":")
        self.studio.training.move(run_id, int(place))
        return {"queue": self.queue(shown)}

    def leave(self, shown: str, value: str) -> Values:
        """Remove a run from the queue; it has not started yet."""
        self.studio.training.discard(value)
        if value == shown:
            return self.nothing_shown() | {"queue": self.queue("")}
        return {"queue": self.queue(shown)}


def no_result() -> Values:
    """Return the playground without a result."""
    return {
        "result": panels.placeholder(EMPTY_RESULT),
        "result_caption": "",
        "gallery": gr.update(visible=False, value=None),
        "download": gr.update(value=None, interactive=False),
        "unet_map": panels.hint(EMPTY_UNET_MAP),
    }


def unplayed() -> Values:
    """Return the values that end a replay."""
    return {"replay": None, "timer": gr.Timer(active=False)}


def _signature(view: RunView) -> dict[str, Any]:
    every = max(1, view.total // 100)
    return {
        "state": view.state,
        "progress": [
            view.state,
            view.step,
            view.stage,
            view.stage_done,
            view.message,
            view.queue_position,
            len(view.notes),
        ],
        "curves": [view.state, view.step // every, len(view.similarity.get("identity", ()))],
        "samples": [view.state, len(view.samples)],
    }
