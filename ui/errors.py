"""How a mistake reaches the person in front of the page: one sentence, never a traceback."""

import html
import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr

log = logging.getLogger(__name__)

FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError)


def as_text(error: Exception) -> str:
    """Return a sentence for the page, whose notices would draw the markup in it."""
    return html.escape(str(error), quote=False)


def told_in_the_page(
    handler: Callable[..., Any], *, written: Callable[[Exception], str] = str
) -> Callable[..., Any]:
    """Wrap an event handler: a ValueError becomes its own sentence, trouble of the machine a short apology."""

    @wraps(handler)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except ValueError as error:
            raise gr.Error(written(error), title="Please check", duration=12, print_exception=False) from None
        except FAULTS as error:
            log.exception("%s failed", handler.__name__)
            raise gr.Error(
                f"That did not work ({type(error).__name__}); the log of the server says more. Nothing was lost.",
                title="Sorry",
                print_exception=False,
            ) from None

    return guarded
