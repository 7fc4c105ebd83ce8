"""Dogs and cats: whole bodies, sitting or standing, with large readable heads."""

from recipes.animal_body import CAT_PARAMS, DOG_PARAMS, EYES, Animal, draw_body, prepare
from recipes.frame import INK, PINK, WHITE, draw_hat
from recipes.kit import Canvas, Identity, Mask, View, mix, scaled


def draw_dog(canvas: Canvas, identity: Identity, view: View) -> None:
    """Draw a dog. It stands sideways if ``view.turn`` is beyond 0.6 (or for every fourth seed), else it sits."""
    animal = prepare(canvas, identity, view, DOG_PARAMS, cat=False)
    draw_body(animal)
    _draw_ears(animal, behind=True)
    head = _dog_head(animal)
    _draw_ears(animal, behind=False)
    _dog_face(animal, head)
    _wear_hat(animal)


def draw_cat(canvas: Canvas, identity: Identity, view: View) -> None:
    """Draw a cat; its pose follows the same rule as a dog's."""
    animal = prepare(canvas, identity, view, CAT_PARAMS, cat=True)
    draw_body(animal)
    _cat_ears(animal)
    head = _cat_head(animal)
    _cat_face(animal, head)
    _wear_hat(animal)


def _draw_ears(animal: Animal, *, behind: bool) -> None:
    """Draw a dog's ears: pointed and folded ones are behind the head, floppy ones in front of it."""
    kind = animal.words["ears"]
    if (kind == "floppy") is behind:
        return
    frame, (hx, hy) = animal.frame, animal.head
    size = 0.75 + 0.5 * animal.scales["ear size"]
    dark = mix(animal.coat, INK, 0.3) if sum(animal.coat) > 0.8 else mix(animal.coat, (0.5, 0.45, 0.45), 0.2)
    for side in (-1, 1):
        marked = animal.pattern == "saddle" or (animal.pattern in ("eye patch", "spots") and side == 1)
        colour = animal.mark if marked else dark
        if kind == "floppy":
            path = [
                (24, 36),
                (40, 34),
                (50 + 7 * size, 8),
                (48 + 6 * size, -22 * size - 10),
                (38, -24 * size - 6),
                (34, 0),
            ]
            ear = frame.blob([(hx + side * x, hy + y) for x, y in path], tuft=animal.tuft * 0.6)
            frame.canvas.shadow(ear, dy=3 * frame.scale, blur=3, opacity=0.2)
            animal.fur(ear, colour, 0.5, 9)
            continue
        tip = 34 + 28 * size
        path = [(12, 30), (27, tip - 4), (36, tip), (41, tip - 10), (45, 14)]
        animal.fur(frame.blob([(hx + side * x, hy + y) for x, y in path]), colour, 0.5, 9)
        if kind == "pointed":
            inner = [(22, 30), (32, tip - 12), (36, tip - 12), (40, 20)]
            frame.paint(frame.blob([(hx + side * x, hy + y) for x, y in inner]), mix(PINK, colour, 0.35))
        else:
            flap = [(17, tip - 16), (35, tip + 1), (48, tip - 8), (56 + 4 * size, 20), (38, 26)]
            animal.fur(frame.blob([(hx + side * x, hy + y) for x, y in flap]), scaled(colour, 0.84), 0.5, 8)


def _dog_head(animal: Animal) -> Mask:
    frame, (hx, hy) = animal.frame, animal.head
    half = [(20, 40), (40, 26), (47, 0), (40, -22), (22, -38)]
    path = [(hx + x, hy + y) for x, y in half] + [(hx - x, hy + y) for x, y in reversed(half)]
    head = frame.blob(path, tuft=animal.tuft * 0.8)
    animal.fur(head, animal.coat, 0.48, 15)
    shift = frame.turn * 6
    if animal.pattern == "saddle":
        animal.marking(frame.ellipse(hx + shift, hy + 36, 36, 22), head)
    if animal.pattern == "eye patch":
        animal.marking(frame.ellipse(hx + 22 + shift, hy + 12, 20, 23, -0.3), head)
    if animal.pattern == "spots":
        animal.marking(frame.ellipse(hx - 28 + shift, hy + 24, 14, 12), head)
        animal.marking(frame.ellipse(hx + 34, hy - 10, 11, 12), head)
    if animal.pattern == "blaze":
        animal.marking(
            frame.blob(
                [
                    (hx + shift, hy + 46),
                    (hx + shift + 10, hy + 30),
                    (hx + shift + 8, hy),
                    (hx + shift - 8, hy),
                    (hx + shift - 10, hy + 30),
                ]
            ),
            head,
        )
    return head


def _dog_face(animal: Animal, head: Mask) -> None:
    frame, (hx, hy) = animal.frame, animal.head
    long = animal.scales["snout"]
    x = hx + frame.turn * 9
    for side in (-1, 1):
        _round_eye(animal, hx + side * 21 + frame.turn * 6, hy + 10, 9.5)
    y = hy - 17 - 5 * long
    width, height = 21 + 5 * long, 16 + 9 * long
    colour = animal.mark if animal.pattern in ("blaze", "saddle") else mix(animal.coat, WHITE, 0.3)
    open_mouth = frame.view.expression in ("smiling", "laughing", "surprised")
    muzzle = frame.ellipse(x, y, width, height)
    if open_mouth:
        jaw = frame.ellipse(x, y - height + 1, 13, 13)
        frame.paint(jaw, (0.42, 0.12, 0.13))
        frame.paint(frame.ellipse(x, y - height - 5, 9.5, 10), PINK, 0.5, 5)
    frame.shade(muzzle, head, drop=4, opacity=0.25)
    animal.fur(muzzle, colour, 0.5, 9)
    nose_y = y + height * 0.48
    line = mix(colour, INK, 0.75)
    frame.paint(frame.stroke([(x, nose_y - 4), (x, y - height * 0.42)], 3.4), line)
    for side in (-1, 1):
        smile = [
            (x, y - height * 0.42),
            (x + side * 8, y - height * 0.62),
            (x + side * 15, y - height * 0.36),
        ]
        frame.paint(frame.stroke(smile, 3.4), line)
    frame.paint(frame.ellipse(x, nose_y, 11.5, 8.5), INK, 0.6, 5)
    frame.paint(frame.ellipse(x - 3, nose_y + 3, 3.6, 2.2), (0.72, 0.72, 0.76))


def _round_eye(animal: Animal, x: float, y: float, radius: float) -> None:
    frame = animal.frame
    rim = mix(animal.coat, WHITE, 0.75) if sum(animal.coat) < 1.0 else mix(animal.coat, INK, 0.65)
    frame.paint(frame.ellipse(x, y, radius + 2.4, radius + 3.0), rim)
    frame.paint(frame.ellipse(x, y, radius, radius + 0.8), EYES[animal.words["eyes"]])
    frame.paint(frame.ellipse(x, y, radius * 0.62, radius * 0.68), (0.06, 0.05, 0.06))
    frame.paint(frame.ellipse(x - radius * 0.32 * frame.mirror, y + radius * 0.38, 3.4, 3.4), (1.0, 1.0, 1.0))


def _cat_ears(animal: Animal) -> None:
    frame, (hx, hy) = animal.frame, animal.head
    tip = 48 + 17 * animal.scales["ear size"]
    for side in (-1, 1):
        marked = animal.pattern == "points" or (animal.pattern == "patches" and side == 1)
        colour = animal.mark if marked else animal.coat
        path = [(8, 28), (28, tip - 6), (38, tip), (44, tip - 10), (48, 6), (28, 12)]
        animal.fur(frame.blob([(hx + side * x, hy + y) for x, y in path]), colour, 0.45, 8)
        inner = [(20, 30), (33, tip - 13), (37, tip - 13), (42, 16)]
        frame.paint(frame.blob([(hx + side * x, hy + y) for x, y in inner]), mix(PINK, colour, 0.2))


def _cat_head(animal: Animal) -> Mask:
    frame, (hx, hy) = animal.frame, animal.head
    wide = 0.88 + 0.22 * animal.scales["face"]
    half = [(20, 36), (42 * wide, 23), (51 * wide, -5), (40 * wide, -26), (18, -36)]
    path = [(hx + x, hy + y) for x, y in half] + [(hx - x, hy + y) for x, y in reversed(half)]
    head = frame.blob(path, tuft=animal.tuft)
    animal.fur(head, animal.coat, 0.48, 15)
    shift = frame.turn * 6
    if animal.pattern == "points":
        animal.marking(frame.ellipse(hx + shift, hy - 8, 30, 26).blurred(4), head)
    if animal.pattern == "patches":
        animal.marking(frame.ellipse(hx + 26, hy + 20, 24, 22), head)
    if animal.pattern == "tuxedo":
        white = [(0, 14), (14, -8), (34, -18), (24, -40), (-24, -40), (-34, -18), (-14, -8)]
        animal.marking(frame.blob([(hx + shift + x, hy + y) for x, y in white]), head)
    if animal.pattern == "stripes":
        for x in (-15, 0, 15):
            animal.marking(
                frame.stroke([(hx + shift + x, hy + 38), (hx + shift + x * 0.7, hy + 20)], 6.5), head
            )
        for side in (-1, 1):
            for y in (-6, -18):
                animal.marking(
                    frame.stroke([(hx + side * 54 * wide, hy + y), (hx + side * 38 * wide, hy + y - 1)], 6),
                    head,
                )
    return head


def _cat_face(animal: Animal, head: Mask) -> None:
    frame, (hx, hy) = animal.frame, animal.head
    x = hx + frame.turn * 8
    size = 0.85 + 0.3 * animal.scales["eye size"]
    for side in (-1, 1):
        _cat_eye(animal, hx + side * 22 + frame.turn * 6, hy + 3, size, side)
    marked = animal.pattern in ("tuxedo", "points")
    base = animal.mark if marked else animal.coat
    colour = mix(base, WHITE, 0.25)
    if frame.view.expression in ("smiling", "laughing", "surprised"):
        frame.paint(frame.ellipse(x, hy - 28, 8, 9), (0.55, 0.16, 0.18))
        frame.paint(frame.ellipse(x, hy - 32, 6, 5), PINK)
    for side in (-1, 1):
        animal.fur(frame.ellipse(x + side * 9, hy - 20, 11.5, 9.5), colour, 0.4, 6)
    whisker = mix(base, WHITE, 0.8) if sum(base) < 1.9 else mix(base, INK, 0.5)
    for side in (-1, 1):
        for rise in (-5, 4):
            line = frame.stroke(
                [(x + side * 20, hy - 18 + rise * 0.4), (x + side * 56, hy - 18 + rise * 2)], 2.6
            )
            frame.paint(line, whisker, opacity=0.6)
    nose = frame.blob([(x - 8, hy - 9), (x, hy - 8), (x + 8, hy - 9), (x, hy - 18)])
    frame.paint(nose, PINK if sum(base) > 0.75 else (0.62, 0.36, 0.38), 0.4, 4)
    mouth = [(x - 12, hy - 26), (x - 6, hy - 28), (x, hy - 20), (x + 6, hy - 28), (x + 12, hy - 26)]
    frame.paint(frame.stroke(mouth, 3.0), mix(colour, INK, 0.7))


def _cat_eye(animal: Animal, x: float, y: float, size: float, side: int) -> None:
    frame = animal.frame
    rim = mix(animal.coat, WHITE, 0.55) if sum(animal.coat) < 0.9 else mix(animal.coat, INK, 0.75)
    frame.paint(frame.ellipse(x, y, 14.2 * size, 12.6 * size, side * 0.3), rim)
    eye = frame.ellipse(x, y, 12 * size, 10.6 * size, side * 0.3)
    frame.paint(eye, EYES[animal.words["eyes"]], 0.25, 5)
    frame.paint(frame.ellipse(x, y, 4.4 * size, 9.6 * size), (0.05, 0.05, 0.06))
    frame.paint(frame.ellipse(x - 3.5 * frame.mirror, y + 4.5, 3.2, 3.2), (1.0, 1.0, 1.0))


def _wear_hat(animal: Animal) -> None:
    if animal.frame.view.wearable == "hat":
        draw_hat(animal.frame, animal.head[0] + animal.frame.turn * 3, animal.head[1] + 35, 70)
