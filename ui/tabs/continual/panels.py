"""HTML of the tab Continual: the grid of a sequence, the map of the entries its concepts moved, and pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.runs.sequences import ConceptPictures, Task
from ui.html import BrowserCopies, Html, element

Rows = Sequence[Sequence[ConceptPictures]]


def grid(tasks: Sequence[Task], rows: Rows, *, copies: BrowserCopies, title: str) -> Html:
    """Return a table of pictures: concept (columns) after each task (rows), with the similarity below each."""
    head = [
        element("th", element("strong", task.name), element("code", task.word), scope="col") for task in tasks
    ]
    body = []
    for task, row in zip(tasks, rows, strict=True):
        cells = {each.word: each for each in row}
        body.append(
            element(
                "tr",
                element("th", f"After {task.index}", element("small", f"learned {task.name}"), scope="row"),
                *[_cell(cells.get(one.word), task=task, of=one, copies=copies) for one in tasks],
            )
        )
    table = element("table", element("thead", element("tr", element("td"), *head)), element("tbody", *body))
    return element("figure", element("h3", title), element("div", table, class_="sequence", tabindex=0))


def _cell(cell: ConceptPictures | None, *, task: Task, of: Task, copies: BrowserCopies) -> Html:
    if of.index > task.index:
        return element("td", class_="later", aria_label="not learned yet")
    if cell is None:
        return element("td", "–", title="No pictures were kept for this task.")
    image = element(
        "img",
        src=copies.enlarged(cell.files[0], side_px=256),
        alt=f"{of.name} after task {task.index}: {cell.prompt}",
    )
    told = "" if cell.score is None else f"{cell.score:.2f}"
    new = "new" if of.index == task.index else ""
    return element("td", image, element("small", told), class_=new, title=f"{cell.prompt}, seed {cell.seed}")


def progress_of(tasks: Sequence[Task]) -> str:
    """Return the concepts of a sequence in one line: "Ada → Henrik"."""
    return " → ".join(task.name for task in tasks)


def entries(told: Mapping[str, Any], names: Mapping[str, str], *, copies: BrowserCopies) -> Html:
    """Return the map of a layer's entries with its legend and the share that several concepts occupy."""
    swatches = [
        element("li", element("i", style=f"background: rgb{tuple(colour)}"), names.get(word, word))
        for word, colour in zip(told["words"], told["colours"], strict=False)
    ]
    shared = [element("li", element("i", style="background: rgb(20, 20, 20)"), "several")]
    several = len(told["words"]) > 1
    text = f"Shared by several concepts: {told['shared']:.1%} of the entries; independent ones would share {told['chance']:.1%}."
    return element(
        "figure",
        element("h3", "Which entries each concept moved"),
        element(
            "p",
            f"The weight of {told['layer'].removeprefix('unet.')}, one point per entry: the tenth that each concept "
            "changed most.",
            class_="hint",
        ),
        element("img", src=copies.url(Path(told["picture"])), alt=text, class_="entries"),
        element("ul", *swatches, *(shared if several else []), class_="legend"),
        *([element("p", text, class_="hint")] if several else []),
        class_="view",
    )


def pictures(shown: Sequence[tuple[str, Path]], *, copies: BrowserCopies) -> Html:
    """Return pictures side by side, each with its title."""
    figures = [
        element(
            "figure",
            element("img", src=copies.enlarged(path, side_px=384), alt=title),
            element("figcaption", title),
        )
        for title, path in shown
    ]
    return element("div", *figures, class_="together main")
