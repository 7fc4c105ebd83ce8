"""Below a prompt: the subject's trigger words, words that the base was not trained on, and phrases to click."""

import json

from pipelines.models.prompt_words import Phrase, PromptWords
from ui.html import Html, element

KINDS = {"scene": "Scene", "light": "Light", "worn": "Wearing", "style": "Style"}
# Everything happens in the browser, so that no answer of the server can overwrite what is being typed.
SCRIPT = """
const field = () => element.closest('.acts-together')?.querySelector('.typed-prompt textarea');
const escaped = (text) => text.replace(/[.*+?^${}()|[\\]\\\\]/g, '\\\\$&');
const place = (text, phrase) => text.search(new RegExp('(?<![\\\\p{L}\\\\p{N}])' + escaped(phrase) + '(?![\\\\p{L}\\\\p{N}])', 'iu'));
const chips = (kind) => [...element.querySelectorAll('[data-kind="' + kind + '"]')];
const phrases = (chip) => JSON.parse(chip.dataset.phrases);
const found = (text, kind) => chips(kind).flatMap(phrases).filter((each) => place(text, each) >= 0)
  .sort((one, other) => other.length - one.length)[0] || '';
const tidy = (text) => text.replace(/\\s+/g, ' ').replace(/ +,/g, ',').replace(/(, *)+$/, '').trim();
const swap = (text, old, next) => {
  const at = place(text, old);
  return at < 0 ? text : text.slice(0, at) + next + text.slice(at + old.length);
};
const first = (text, kinds) => kinds.map((kind) => place(text, found(text, kind) || '\\u0000')).filter((at) => at >= 0)
  .sort((one, other) => one - other)[0];
const without = (text, phrase) => {
  for (const [old, next] of [['wearing ' + phrase + ' and', 'wearing'], ['and ' + phrase, ''], ['wearing ' + phrase, '']])
    if (place(text, old) >= 0) return swap(text, old, next);
  return swap(text, phrase, '');
};
const noun = (phrase) => phrase.split(' ').at(-1);
const put = {
  scene: (text, phrase) => {
    const old = found(text, 'scene'), at = first(text, ['light']);
    if (old) return swap(text, old, phrase);
    return at === undefined ? text + ' ' + phrase : text.slice(0, at) + phrase + ' ' + text.slice(at);
  },
  light: (text, phrase) => found(text, 'light') ? swap(text, found(text, 'light'), phrase) : text + ' ' + phrase,
  worn: (text, phrase) => {
    const same = chips('worn').flatMap(phrases).find((each) => noun(each) === noun(phrase) && place(text, each) >= 0);
    if (same) return swap(text, same, phrase);
    const cut = first(text, ['scene', 'light']) ?? text.length, head = text.slice(0, cut).trimEnd();
    const joined = /\\bwearing\\b/i.test(head) ? ' and ' : ' wearing ';
    return head + joined + phrase + ' ' + text.slice(cut);
  },
  style: (text, phrase) => {
    const old = found(text, 'style') || found(text, 'medium');
    return old ? swap(text, old, phrase) : phrase + ' ' + text;
  },
};
const drop = {
  scene: (text, phrase) => swap(text, phrase, ''),
  light: (text, phrase) => swap(text, phrase, ''),
  worn: without,
  style: (text, phrase) => swap(text, phrase, chips('medium').flatMap(phrases)[0] || ''),
};
const words = (text) => text.toLowerCase().replace(/\\{[^}]*\\}/g, ' ').match(/\\p{L}+/gu) || [];
const look = () => {
  const text = field()?.value || '', told = element.querySelector('.prompt-words');
  if (!told) return;
  for (const chip of element.querySelectorAll('.word-chip'))
    chip.setAttribute('aria-pressed', phrases(chip).some((each) => place(text, each) >= 0));
  const known = new Set(words(told.dataset.known)), own = words(told.dataset.own), line = told.querySelector('.unknown');
  const strange = known.size ? [...new Set(words(text))].filter((word) => !known.has(word) && !own.includes(word)) : [];
  if (line.dataset.words === strange.join(' ')) return;
  line.dataset.words = strange.join(' ');
  line.replaceChildren();
  if (!strange.length) return;
  line.append('This base was not trained on: ');
  strange.forEach((word, index) => {
    const mark = document.createElement('mark');
    mark.textContent = word;
    line.append(index ? ', ' : '', mark);
  });
};
element.addEventListener('click', (event) => {
  const chip = event.target.closest('.word-chip'), area = field();
  if (!chip || !area) return;
  const kind = chip.dataset.kind, there = phrases(chip).find((each) => place(area.value, each) >= 0);
  area.value = tidy(there ? drop[kind](area.value, there) : put[kind](area.value, phrases(chip)[0]));
  area.dispatchEvent(new Event('input', {bubbles: true}));
});
document.addEventListener('input', (event) => { if (event.target === field()) look(); });
(window.atelierWords ||= new Set()).add(look);
watch('value', look);
requestAnimationFrame(look);
"""
# The fields change without an event of the browser when a run is chosen; the values arrive a moment later.
LOOK_AGAIN = "() => requestAnimationFrame(() => (window.atelierWords || []).forEach((look) => look()))"


def below_prompt(words: PromptWords, *, hint: Html, noun: str) -> Html:
    """Return what is shown below the prompt of a run: a ``hint``, unknown words, and phrases that suit its class noun."""
    suited = words.suited(noun)
    groups = [_group(kind, [each for each in suited if each.kind == kind]) for kind in KINDS]
    hidden = [_chip(each, hidden=True) for each in words.phrases if each.kind == "medium"]
    return element(
        "div",
        hint,
        element("p", class_="unknown", role="status"),
        *groups,
        *hidden,
        class_="prompt-words",
        data_known=" ".join(sorted(words.known)),
        data_own=" ".join(words.learned),
    )


def _group(kind: str, phrases: list[Phrase]) -> Html:
    if not phrases:
        return Html("")
    chips = [_chip(each) for each in phrases]
    return element(
        "div",
        element("span", KINDS[kind], aria_hidden="true"),
        element("div", *chips, role="group", aria_label=KINDS[kind]),
        class_="word-chips",
    )


def _chip(phrase: Phrase, *, hidden: bool = False) -> Html:
    return element(
        "button",
        phrase.label,
        type="button",
        class_="medium" if hidden else "word-chip",
        data_kind=phrase.kind,
        data_phrases=json.dumps(phrase.phrases, ensure_ascii=False),
        aria_pressed="false",
        title=phrase.phrases[0],
        hidden=hidden,
    )
