"""How a mistake reaches the person in front of the page, or a program: one sentence, never a traceback."""

import html
import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr

from pipelines.files import disk_error

log = logging.getLogger(__name__)

FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError)


def as_text(error: Exception) -> str:
    """Return a sentence for a notice on the page, which would draw the markup in it."""
    return html.escape(str(error), quote=False)


def raise_gradio_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an endpoint: a ValueError becomes its own sentence, trouble of the machine a short apology."""

    @wraps(handler)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except ValueError as error:
            raise gr.Error(str(error), title="Please check", print_exception=False) from None
        except FAULTS as error:
            raise gr.Error(_apology(error, handler), title="Sorry", print_exception=False) from None

    return guarded


def show_notices(handler: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Wrap an event handler: it ends in one notice and changes nothing.

    An error that is raised to Gradio would cover every output of the event with a notice of its own, which takes the
    clicks until the page is loaded again.
    """

    @wraps(handler)
    def guarded(*args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            return handler(*args, **kwargs)
        except ValueError as error:
            gr.Warning(as_text(error), title="Please check", duration=12)
        except FAULTS as error:
            gr.Warning(_apology(error, handler), title="Sorry")
        return {}

    return guarded


def _apology(error: Exception, handler: Callable[..., Any]) -> str:
    if known := disk_error(error):
        log.warning("%s: %s", handler.__name__, error)
        return str(known)
    log.exception("%s failed", handler.__name__)
    return f"That did not work ({type(error).__name__}); the log of the server says more. Nothing was lost."
