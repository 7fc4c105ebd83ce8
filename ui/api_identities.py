"""The API endpoints of the identity space: sample a person, edit one."""

from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.config import SampleConfig, from_dict
from pipelines.services.identity_space import Edit, Point
from ui.errors import raise_gradio_errors
from ui.html import BrowserCopies

if TYPE_CHECKING:
    from pipelines.studio import Studio

Answer = tuple[str, dict[str, Any]]


def add(studio: "Studio", copies: BrowserCopies) -> None:
    """Add the endpoints to the Blocks: w2w_sample, w2w_edit."""
    service = studio.identities

    def drawn(point: Point, edit: Edit, settings: dict[str, Any] | None) -> Answer:
        told = next((each for each in service.spaces() if each.name == point.space), None)
        prompt = {"prompt": told.prompt} if told else {}
        config = from_dict(SampleConfig, prompt | dict(settings or {}))
        path = service.draw(point, edit, config).path
        final = service.edited(point, edit)
        person = {"space": final.space, "coordinates": list(final.coordinates), "origin": final.origin}
        return str(copies.copy(path)), person

    def w2w_sample(space: str, seed: int, factor: float, settings: dict[str, Any] | None) -> Answer:
        """Draw the new person of a seed. ``settings`` are fields of SampleConfig, such as prompt, seed or steps."""
        point = service.sample(space, seed=int(seed), factor=float(factor))
        return drawn(point, Edit({}), settings)

    def w2w_edit(
        person: dict[str, Any] | None, amounts: dict[str, float] | None, settings: dict[str, Any] | None
    ) -> Answer:
        """Draw a person of ``w2w_sample`` with attributes changed by standard deviations: {"beard": 2.0}."""
        return drawn(_point(person), Edit(amounts or {}), settings)

    given = gr.JSON({}, visible=False, label="settings")
    outputs = [gr.Image(visible=False, format="png", label="picture"), gr.JSON(visible=False, label="person")]
    gr.Button(visible=False).click(
        raise_gradio_errors(w2w_sample),
        inputs=[
            gr.Textbox("faces", visible=False, label="space"),
            gr.Number(0, visible=False, label="seed"),
            gr.Number(1.0, visible=False, label="factor"),
            given,
        ],
        outputs=outputs,
        api_name="w2w_sample",
        concurrency_id="pictures",
    )
    gr.Button(visible=False).click(
        raise_gradio_errors(w2w_edit),
        inputs=[
            gr.JSON({}, visible=False, label="person"),
            gr.JSON({}, visible=False, label="amounts"),
            given,
        ],
        outputs=outputs,
        api_name="w2w_edit",
        concurrency_id="pictures",
    )


def _point(person: dict[str, Any] | None) -> Point:
    try:
        values = tuple(float(value) for value in (person or {})["coordinates"])
        return Point(str(person["space"]), values, str(person.get("origin", ""))[:200])  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "A person is a table with space and coordinates, as w2w_sample returns it; pass that table."
        ) from error
