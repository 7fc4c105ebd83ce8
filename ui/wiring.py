"""The page's widgets by name. Events are connected by these names, and handlers never see a component."""

import secrets
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr

from ui.errors import show_notices
from ui.run.monitor import PARTS, RunMonitor
from ui.tabs.library.handlers import LibraryHandlers
from ui.tabs.train.handlers import TrainHandlers
from ui.tabs.train.playground_handlers import PlaygroundHandlers

WATCHING: dict[str, Any] = {"concurrency_limit": None}
# One at a time, in order of arrival, so that the photographs chosen last are the ones trained on.
SUBJECT: dict[str, Any] = {"concurrency_id": "subject", "concurrency_limit": 1}
SQUARES = [  # only for the user's own photographs
    "crops_row", "squares", "limits_row", "limits", "tiles", "photo_row", "photo",
]  # fmt: skip
# Sets each field to the answer, unless its value has changed since the event was sent.
KEEP_CHANGED = """
(answer, ...now) => {
  const told = Object.values(answer || {});
  const values = now.map((value, place) => {
    const own = told.find((each) => each.place === place);
    return own && JSON.stringify(value) === JSON.stringify(own.was) ? own.value : {__type__: 'update'};
  });
  return values.length === 1 ? values[0] : values;
}
"""
# Fields that a user may be typing in when an answer with another value for them arrives.
TYPED = ("prompt", "seed", "class_noun")
OFFERED = {name: f"offered_{name}" for name in TYPED}
DRAWN = {part: f"drawn_{part}" for part in PARTS}
# The widgets that may change when a run is rendered.
WATCHED = [
    "shown", "drawn", "runs", "compare", "caption", "photos", "strip", "progress", "loss", "similarity", "run_card",
    "start_row", "stop_row", "after_row", "more_row", "resume", "charts", "playground", "guide", "queue", "replay",
    "replay_row", "replaying_row", "advice", "timer", "sample_now", "save_now", "stop_later", "seen",
    "forget", "prompt_hint", "recalled", "recalled_steps", "result", "result_caption", "gallery", "download", "unet_map",
]  # fmt: skip


@dataclass
class Page:
    """All widgets by the names that handlers use.

    ``training`` are the fields of all methods, ``advanced`` those that a preset fills or shows. ``mirrors`` maps a
    widget to the one it mirrors: both get the same value from every handler. A field in ``kept`` keeps what the user
    has changed while a handler was at work.
    """

    monitor: RunMonitor
    train: TrainHandlers
    playground: PlaygroundHandlers
    library: LibraryHandlers
    named: dict[str, Any] = field(default_factory=dict)
    mirrors: dict[str, str] = field(default_factory=dict)
    training: list[str] = field(default_factory=list)
    advanced: list[str] = field(default_factory=list)
    sampling: list[str] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)

    def on(
        self,
        event: Callable[..., Any],
        handler: Callable[..., dict[str, Any]],
        *,
        takes: Sequence[str] = (),
        gives: Sequence[str],
        event_data: str = "",
        busy: str = "",
        reports_progress: bool = False,
        fills: bool = False,
        **options: Any,
    ) -> Any:
        """Connect an event: the handler gets the values of the widgets ``takes`` by name and may set those in ``gives``.

        A value for one of ``TYPED`` is dropped if the user has typed in that field since the event.
        ``event_data`` names a value of an event from our own HTML components; the handler gets it as an argument.
        ``busy`` names the one widget that shows the loading state. By default there is none, because Gradio would
        cover every output, permanently if the event fails. With ``reports_progress`` the handler also gets ``progress``.
        ``fills``: the user has asked for these values, as by choosing a preset, so they replace what is in the fields.
        """
        guarded = show_notices(handler)
        offers = [name for name in TYPED if name in gives]
        given = self.with_mirrors([OFFERED.get(name, name) for name in _spread(gives)])
        kept = [] if fills else [name for name in given if name in self.kept]
        own = _spread(takes)
        taken = [*own, *(name for name in kept if name not in own), *(["typed"] if offers else [])]
        memory = gr.JSON({}, visible=False) if kept else None
        if offers:
            options["js"] = _tell_typed(len(taken) - 1)

        def answer(values: tuple[Any, ...], **further: Any) -> Any:
            known = dict(zip(taken, values, strict=True))
            typed = (known["typed"] or {}) if offers else {}
            asked = {name: known[name] for name in own}
            updates = _split_drawn(guarded(**_joined_drawn(asked), **further))
            updates |= {
                OFFERED[name]: _offer(updates.pop(name), typed.get(name, 0))
                for name in offers
                if name in updates
            }
            unknown = set(updates) - set(given)
            if unknown:
                raise RuntimeError(f"{handler.__name__} sets {sorted(unknown)}, which it does not declare")
            ordered = self.in_order(updates, given)
            if kept:
                ordered = _held_back(ordered, given, kept, known)
            return ordered[0] if len(ordered) == 1 else ordered or None

        def handle(*values: Any) -> Any:
            return answer(values)

        def handle_event(event: gr.EventData, *values: Any) -> Any:
            return answer(values, **{event_data: event._data.get(event_data, "")})

        def handle_long(progress: gr.Progress = gr.Progress(), *values: Any) -> Any:  # noqa: B008 - Gradio's convention
            # progress is reported from the device's thread, which lacks this request's context
            return answer(values, progress=partial(copy_context().run, progress))

        done = event(
            handle_long if reports_progress else handle_event if event_data else handle,
            inputs=[self.named[name] for name in taken],
            outputs=[*(self.named[name] for name in given), *([memory] if memory else [])],
            show_progress="full" if busy else "hidden",
            show_progress_on=[self.named[busy]] if busy else [],
            api_visibility="private",
            **options,
        )
        if memory is None:
            return done
        fields = [self.named[name] for name in kept]
        return done.then(
            None, inputs=[memory, *fields], outputs=fields, js=KEEP_CHANGED, api_visibility="private"
        )

    def with_mirrors(self, names: Sequence[str]) -> list[str]:
        """Return the names and those of the widgets that mirror them."""
        return [*names, *(mirror for mirror, origin in self.mirrors.items() if origin in names)]

    def in_order(self, updates: dict[str, Any], names: Sequence[str]) -> list[Any]:
        """Return the update of each named widget: its own, else that of the widget it mirrors, else none."""
        return [updates.get(name, updates.get(self.mirrors.get(name, name), gr.skip())) for name in names]


def offer_memory() -> dict[str, gr.JSON]:
    """Create hidden components: how often the user has typed in each field, and the values that answers offer."""
    return {name: gr.JSON({}, visible=False) for name in ("typed", *OFFERED.values())}


def wire_offers(page: Page) -> None:
    """Fill in the values that answers offer, unless the user has typed in the field since the question."""
    for name, offered in OFFERED.items():
        fields = page.with_mirrors([name])
        page.named[offered].change(
            None,
            inputs=[page.named[each] for each in (offered, *fields)],
            outputs=[page.named[each] for each in fields],
            js=f"(offer, ...now) => offer?.typed === (window.atelierTyped?.{name} || 0)"
            f" ? Array({len(fields)}).fill(offer.value) : now.slice(0, {len(fields)})",
            api_visibility="private",
        )


def _tell_typed(place: int) -> str:
    """Return the JavaScript that sets input ``place``, the last one, to the counts of assets/app.js."""
    return f"(...values) => [...values.slice(0, {place}), {{...window.atelierTyped}}]"


def _offer(value: Any, typed: int) -> dict[str, Any]:
    """Return a value for a field as an offer; each is unique, so that the browser notices it."""
    return {"value": value, "typed": typed, "id": secrets.token_hex(4)}


def _held_back(
    ordered: list[Any], given: Sequence[str], kept: Sequence[str], known: dict[str, Any]
) -> list[Any]:
    """Return the updates without the values of ``kept`` fields, and last these values with those known before."""
    held: dict[str, Any] = {}
    rest = []
    for name, update in zip(given, ordered, strict=True):
        told = update if isinstance(update, dict) and "__type__" in update else None
        if name in kept and (told is None or "value" in told):
            value = update if told is None else told["value"]
            held[name] = {"place": kept.index(name), "was": known[name], "value": value}
            update = (
                gr.skip() if told is None else {key: each for key, each in told.items() if key != "value"}
            )
        rest.append(update)
    return [*rest, held]


def drawn_memory() -> gr.JSON:
    """Create a hidden component that stores, in the browser, what is currently shown.

    A ``gr.State`` is kept on the server. Two concurrent events could set it in one order and reach the browser in the
    other, and the server would then record something that is not shown.
    """
    return gr.JSON({}, visible=False)


def _spread(names: Sequence[str]) -> list[str]:
    """Return the names with "drawn" replaced by its parts, each of which is set together with the values it describes."""
    return [each for name in names for each in (DRAWN.values() if name == "drawn" else (name,))]


def _joined_drawn(values: dict[str, Any]) -> dict[str, Any]:
    if DRAWN[PARTS[0]] not in values:
        return values
    return {"drawn": {part: values.pop(name) for part, name in DRAWN.items()}} | values


def _split_drawn(updates: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in updates.items() if name != "drawn"}
    return rest | {DRAWN[part]: facts for part, facts in updates.get("drawn", {}).items()}


def bound(handler: Callable[..., dict[str, Any]], *values: Any) -> Callable[..., dict[str, Any]]:
    """Return a handler with its first arguments bound, under the same name."""

    def call(**given: Any) -> dict[str, Any]:
        return handler(*values, **given)

    call.__name__ = handler.__name__
    return call
