"""The job chip in the header, and the one request with which an open page asks whether something has changed."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipelines.runs.status import Activity, Working
from ui.html import Html, element
from ui.run.state import WORDS

if TYPE_CHECKING:
    from pipelines.studio import Studio

JOBS = {  # of short jobs, by their name
    "warm up": "Loading the base model",
    "picture": "Making pictures",
    "attention": "Making pictures",
    "mix": "Mixing two runs",
    "save the mix": "Saving the mix",
    "combine": "Combining runs",
    "merge": "Merging runs",
    "edit": "Editing the photograph",
    "identity": "Drawing a person",
    "compare identities": "Comparing people",
    "save an identity": "Saving the person",
    "import": "Importing",
    "export": "Exporting",
    "tags": "Describing the photographs",
    "identifiers": "Looking for trigger words",
    "spectrum": "Reading the weights",
}
# Gradio's own timer costs the browser a whole event per second; this request changes nothing unless its answer does.
# A hidden page asks nothing. After a click or a key, something may start soon, so the page asks often for a while.
SCRIPT = """
const OFTEN_MS = 1000, SELDOM_MS = 5000, ATTENTIVE_MS = 10000;
let version = null, timer = 0, asking = false, acted = -ATTENTIVE_MS;
const hidden = () => document.visibilityState === 'hidden';
const plan = (wait) => { clearTimeout(timer); if (!hidden()) timer = setTimeout(ask, wait); };
const show = (html) => {
  const place = document.querySelector('.job-place');
  if (!place || place.drawn === html) return;
  const focused = place.contains(document.activeElement);
  place.innerHTML = place.drawn = html;
  if (focused) place.querySelector('button')?.focus();
};
async function ask() {
  if (asking || hidden()) return;
  asking = true;
  let live = false;
  try {
    const told = await server.activity(null);
    live = told.live;
    show(told.chip);
    if (told.version !== version) trigger('changed');
    version = told.version;
  } catch { show(''); }  // the server has stopped; it may come back
  asking = false;
  plan(live || performance.now() - acted < ATTENTIVE_MS ? OFTEN_MS : SELDOM_MS);
}
document.addEventListener('visibilitychange', () => hidden() ? clearTimeout(timer) : ask());
for (const name of ['click', 'keydown', 'drop']) {
  document.addEventListener(name, (event) => {
    const calm = performance.now() - acted > ATTENTIVE_MS;
    if (event.isTrusted) acted = performance.now();  // not a click by a script
    const chip = event.type === 'click' && event.target.closest?.('.job-chip');
    if (chip) trigger('open', {value: chip.dataset.opens});
    if (calm && event.isTrusted && !asking) plan(OFTEN_MS);
  }, true);
}
ask();
"""
# After the tab has turned, and the run is shown in it: the queue is in sight and has the focus.
TO_THE_QUEUE = """() => {
  let tries = 40;
  const look = () => {
    const card = document.querySelector('#page-train #run-card');
    const queue = card?.querySelector('.queue') || card?.querySelector('.run-title');
    if (!queue?.offsetParent) return tries-- > 0 && setTimeout(look, 50);
    queue.scrollIntoView({block: 'center'});
    queue.tabIndex = -1;
    queue.focus({preventScroll: true});
  };
  if (document.querySelector('.job-chip')?.dataset.opens?.startsWith('run:')) setTimeout(look, 50);
}"""


def asked(studio: "Studio") -> Callable[[Any], dict[str, Any]]:
    """Return the function that the page asks: the chip, whether to ask again soon, and the version of what is shown."""

    def activity(_: Any = None) -> dict[str, Any]:
        now = studio.activity.now()
        live = bool(now.running or now.queued)
        return {"chip": chip(now), "live": live, "version": now.version}

    return activity


def chip(activity: Activity) -> Html:
    """Return the job chip; an empty string while nothing is running and nothing has just ended."""
    for working in activity.running[:1]:
        words = _words(working, others=len(activity.running) - 1, queued=activity.queued)
        return _chip(words, state=working.state, opens=f"{working.kind}:{working.id}", share=working.share)
    if activity.queued:
        return _chip([f"{activity.queued} queued"], state="queued", opens="run:")
    if activity.ended:
        ended = activity.ended
        words = [ended.name, *_method(ended.name, ended.method), WORDS.get(ended.state, ended.state).lower()]
        return _chip(words, state=ended.state, opens=f"run:{ended.id}")
    return Html("")


def _words(working: Working, *, others: int, queued: int) -> list[str]:
    if working.kind == "job":
        return [JOBS.get(working.name, "Working")]
    facts = _method(working.name, working.method)
    facts += [working.doing] if working.doing else []
    if working.state == "stopping":
        facts.append("stopping")
    elif working.share is not None and (working.share or not working.doing):
        facts.append(f"{100 * working.share:.0f} %")
    if working.seconds_left is not None and not working.doing:
        facts.append(f"{clock(working.seconds_left)} left")
    facts += [f"{others} more running"] if others else []
    facts += [f"{queued} queued"] if queued else []
    return [working.name, *facts]


def _method(name: str, method: str) -> list[str]:
    return [method] if method and method.lower() not in name.lower() else []


def clock(seconds: float) -> str:
    """Return a duration as on a clock: "0:25", "12:05", "1:02:05"."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _chip(words: list[str], *, state: str, opens: str, share: float | None = None) -> Html:
    dot = element("span", class_=f"dot {state}", aria_hidden="true")
    parts = [element("span", word) for word in words]
    told = ", ".join(words)
    if opens.startswith("job:"):
        return element("span", dot, *parts, class_="job-chip", role="status")
    return element(
        "button",
        dot,
        *parts,
        type="button",
        class_="job-chip",
        data_opens=opens,
        style=f"--share: {100 * min(share or 0.0, 1.0):.0f}%",
        aria_label=f"{told}. Open the queue",
        title="Open the queue",
    )
