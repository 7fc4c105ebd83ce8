"""Captions of pictures: short to long sentences and tag lists that are always true of the picture."""

import numpy as np

from recipes.picture import Picture, Placed, attributes
from recipes.scenes import OUTDOOR

RARE_SHARE = 1.0 / 40.0
LONGEST = 34  # maximum number of words and commas in a caption

SCENE_PHRASES: dict[str, tuple[str, ...]] = {
    "beach": ("on the beach", "on a beach", "at the beach"),
    "forest": ("in the forest", "in a forest"),
    "snowy mountains": ("in the snowy mountains", "in snowy mountains"),
    "city street": ("on a city street", "on the city street"),
    "living room": ("in the living room", "in a living room"),
    "kitchen": ("in the kitchen", "in a kitchen"),
    "desert": ("in the desert", "in a desert"),
    "flower garden": ("in a flower garden", "in the flower garden"),
    "starry night": ("under a starry night sky", "on a starry night"),
    "library": ("in the library", "in a library"),
}
SCENE_NAMES: dict[str, str] = {
    "snowy mountains": "snowy mountains",
    "starry night": "a starry night sky",
}
LIGHT_PHRASES: dict[str, tuple[str, ...]] = {
    "day": ("in daylight", "by day"),
    "sunset": ("at sunset", "in golden evening light"),
    "overcast": ("in grey light", "in soft overcast light"),
    "night": ("at night", "by night"),
    "studio": ("in studio light", "under studio lighting"),
}
LIGHT_TAGS: dict[str, str] = {
    "day": "daylight",
    "sunset": "sunset",
    "overcast": "overcast",
    "night": "night",
    "studio": "studio light",
}
MEDIA: dict[str, tuple[str, ...]] = {
    "photo": ("a photo of", "a photo of", "a photo of", "photo of", "a picture of"),
    "ink manga": ("an ink manga drawing of", "an ink manga picture of", "ink manga of"),
    "watercolour": ("a watercolour painting of", "a watercolour of", "watercolour of"),
    "stained glass": ("a stained glass picture of", "stained glass of"),
    "pixel mosaic": ("a pixel mosaic of", "a pixel mosaic picture of"),
}
STYLE_ENDINGS: dict[str, tuple[str, ...]] = {
    style: (f", {style} style", f" in {style} style") for style in MEDIA if style != "photo"
}

_WEIGHTS: dict[str, float] = {
    "hair colour": 3.0, "hair style": 3.0, "glasses": 4.0, "beard": 4.0, "age": 2.0, "skin tone": 2.0, "eye colour": 1.5,
    "coat": 4.0, "pattern": 3.0, "ears": 2.0, "fabric": 4.0, "species": 4.0, "glaze": 4.0, "motif": 3.0, "collar": 2.0,
    "type": 4.0, "material": 3.0, "roof": 3.0,
}  # fmt: skip
ADJECTIVES: tuple[str, ...] = ("age", "build", "width", "gloss", "coat", "fabric", "glaze", "colour")
NOUN_WORDINGS: dict[str, str] = {"species": "plush {}", "type": "{} {kind}"}
_WORDINGS: dict[str, tuple[str, ...]] = {
    "hair colour": ("{} hair",),
    "eye colour": ("{} eyes",),
    "accent": ("{} accents",),
    "ear size": ("{} ears",),
    "eye size": ("{} eyes",),
    "wall": ("{} walls",),
    "window count": ("{} windows",),
    "rise": ("{} deck",),
    "tower height": ("{} towers",),
    "tower top": ("{} towers",),
    "pattern": ("{}",),
    "motif": ("{}",),
}
_WORDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("pattern", "eye patch"): ("a patch over one eye", "an eye patch"),
    ("patch", "eye patch"): ("a patch over one eye", "an eye patch"),
    ("pattern", "saddle"): ("a saddle marking",),
    ("pattern", "blaze"): ("a blaze on its face",),
    ("pattern", "tuxedo"): ("a tuxedo coat",),
    ("pattern", "points"): ("contrasting points",),
    ("belly", "heart"): ("a heart on its belly",),
    ("belly", "star"): ("a star on its belly",),
    ("motif", "flower"): ("a painted flower",),
    ("motif", "star"): ("a painted star",),
    ("motif", "band"): ("a painted band",),
    ("foot", "three feet"): ("three feet",),
    ("foot", "bushes"): ("bushes at its foot",),
    ("foot", "rocks"): ("rocks at its foot",),
    ("foot", "steps"): ("steps at its door",),
    ("spans", "one"): ("one span",),
    ("banks", "grass"): ("grassy banks",),
    ("banks", "rocks"): ("rocky banks",),
    ("banks", "trees"): ("trees on its banks",),
    ("glasses", "round glasses"): ("round glasses", "glasses"),
    ("glasses", "square glasses"): ("square glasses", "glasses"),
    ("beard", "full beard"): ("a full beard", "a beard"),
    ("hair style", "bald"): ("a bald head",),
}
_UNCOUNTED: tuple[str, ...] = ("hair", "fur", "stubble", "skin", "trim")
_COUNTED_OUT: tuple[str, ...] = ("one ", "two ", "three ", "four ", "a ", "an ")


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _counted(words: str) -> str:
    """Add an article to ``words`` unless they are plural, uncountable or already have one."""
    if words.startswith(_COUNTED_OUT) or (words.endswith("s") and not words.endswith("ss")):
        return words
    return words if any(noun in words.split() for noun in _UNCOUNTED) else _article(words)


def phrases_of(kind: str, name: str, word: str) -> tuple[str, ...]:
    """Return the phrases, to follow "with", that say that the attribute ``name`` is ``word``."""
    if (name, word) in _WORDS:
        return _WORDS[name, word]
    if kind == "person" and not name.endswith(" colour"):
        return (_counted(word),)
    if name in _WORDINGS:
        return tuple(_counted(wording.format(word)) for wording in _WORDINGS[name])
    noun = name.removesuffix(" size")
    return (_counted(word if noun in word else f"{word} {noun}"),)


def _pick(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _named(placed: Placed, rng: np.random.Generator, count: int) -> tuple[list[str], list[str], str]:
    """Return adjectives, "with" phrases and the noun that name ``count`` random attributes visible in the view."""
    kind = placed.subject.kind
    found = attributes(placed.subject, placed.view)
    lots = {
        name: lot / _WEIGHTS.get(name, 1.0)
        for name, lot in zip(found, rng.exponential(size=len(found)), strict=True)
    }
    names = sorted(found, key=lots.__getitem__)[:count]
    noun = kind
    for name in NOUN_WORDINGS.keys() & set(names):
        names.remove(name)
        noun = found[name] if kind in found[name] else NOUN_WORDINGS[name].format(found[name], kind=kind)
    adjectives = [found[name] for name in ADJECTIVES if name in names]
    withs = [_pick(phrases_of(kind, name, found[name]), rng) for name in names if name not in ADJECTIVES]
    return adjectives, withs, noun


def _worn(placed: Placed, rng: np.random.Generator, share: float) -> list[str]:
    """Return the items the subject wears, each included with probability ``share``."""
    worn = []
    if placed.subject.kind == "person" and rng.random() < share:
        worn.append(_article(placed.view.clothing))
    if placed.view.wearable and rng.random() < max(share, 0.5):
        worn.append(_article(f"{placed.view.wearable_colour} {placed.view.wearable}"))
    return worn


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _noun_phrase(placed: Placed, rng: np.random.Generator, detail: int, rare: str) -> str:
    adjectives, withs, noun = _named(placed, rng, detail)
    expressive = placed.subject.kind == "person" and placed.view.expression != "calm"
    if expressive and rng.random() < (0.12 if detail == 0 else 0.4):
        adjectives.insert(0, placed.view.expression)
    text = _article(" ".join([*adjectives, rare, noun] if rare else [*adjectives, noun]))
    if withs:
        text += f" with {_listed(withs)}"
    worn = _worn(placed, rng, 0.12 if detail == 0 else 0.4)
    return f"{text} wearing {_listed(worn)}" if worn else text


def _setting(picture: Picture, rng: np.random.Generator, share: float) -> str:
    """Return the scene and the light in words, each included with probability of about ``share``."""
    text = ""
    if rng.random() < share:
        text += f" {_pick(SCENE_PHRASES[picture.scene], rng)}"
    telling = share * (0.55 if picture.light == "day" or picture.scene not in OUTDOOR else 0.8)
    if picture.scene != "starry night" and rng.random() < telling:
        text += f" {_pick(LIGHT_PHRASES[picture.light], rng)}"
    return text


def _subject_words(picture: Picture, rng: np.random.Generator, rare: str) -> str:
    """Describe one subject, or two with their positions."""
    longer = (0, 0, 1, 2, 2, 3, 3, 4)
    detail = longer[int(rng.integers(len(longer)))]
    if len(picture.placed) == 1:
        return _noun_phrase(picture.placed[0], rng, detail, rare)
    left, right = (_noun_phrase(placed, rng, min(detail, 3), "") for placed in picture.placed)
    if rng.random() < 0.65:
        return f"{left} on the left and {right} on the right"
    return f"{left} beside {right}" if rng.random() < 0.5 else f"{right} beside {left}"


def _sentence(picture: Picture, rng: np.random.Generator, rare: str) -> str:
    if picture.placed:
        words = f"{_subject_words(picture, rng, rare)}{_setting(picture, rng, 0.75)}"
    else:
        words = SCENE_NAMES.get(picture.scene, _article(picture.scene))
        if picture.scene != "starry night" and rng.random() < 0.5:
            words += f" {_pick(LIGHT_PHRASES[picture.light], rng)}"
    if picture.style == "photo" or rng.random() < 0.7:
        return f"{_pick(MEDIA[picture.style], rng)} {words}"
    return words + _pick(STYLE_ENDINGS[picture.style], rng)


def _bare(phrase: str) -> str:
    return phrase.removeprefix("a ").removeprefix("an ")


def _tags(picture: Picture, rng: np.random.Generator) -> str:
    words: list[str] = []
    for placed in picture.placed:
        adjectives, withs, noun = _named(placed, rng, int(rng.integers(0, 5)))
        words += [noun, *adjectives, *map(_bare, withs), *map(_bare, _worn(placed, rng, 0.3))]
        if placed.subject.kind == "person" and placed.view.expression != "calm" and rng.random() < 0.5:
            words.append(placed.view.expression)
    words.append(picture.scene)
    if rng.random() < 0.5 and picture.scene != "starry night":
        words.append(LIGHT_TAGS[picture.light])
    if picture.style != "photo" or rng.random() < 0.4:
        words.append(picture.style)
    return ", ".join(words)


def plain_caption(picture: Picture, rng: np.random.Generator) -> str:
    """Return a caption without rare tokens, at most ``LONGEST`` words and commas long."""
    while True:
        text = _tags(picture, rng) if rng.random() < 0.22 else _sentence(picture, rng, "")
        if len(text.split()) + text.count(",") <= LONGEST:
            return text


def caption(picture: Picture, rng: np.random.Generator) -> str:
    """Return a random true caption. A share of ``RARE_SHARE`` contains a random one of ``RARE_TOKENS``."""
    if rng.random() >= RARE_SHARE:
        return plain_caption(picture, rng)
    rare = RARE_TOKENS[int(rng.integers(len(RARE_TOKENS)))]
    if rng.random() < 0.5 and len(picture.placed) == 1:
        return _sentence(picture, rng, rare)
    return f"{plain_caption(picture, rng)}, {rare}"


def _rare_tokens() -> tuple[str, ...]:
    """Return 200 short letter strings that are not words."""
    rng = np.random.default_rng(20)
    consonants, vowels = "bcdfghjklmnpqrstvwxz", "aeiou"
    known = ["sks", "ktn", "pll", "zwx", "qev"]
    while len(known) < 200:
        shape = _pick(("ccc", "cccc", "qcv", "vzc", "cvxq", "xcvc"), rng)
        letters = {"c": consonants, "v": vowels}
        token = "".join(_pick(tuple(letters.get(place, place)), rng) for place in shape)
        if token not in known:
            known.append(token)
    return tuple(known)


RARE_TOKENS: tuple[str, ...] = _rare_tokens()
