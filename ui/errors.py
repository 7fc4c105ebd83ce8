"""How errors reach the user of the page or of the API: one sentence, never a traceback."""

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
    """Return an error as text for a notice, escaped because Gradio renders notices as HTML."""
    return html.escape(str(error), quote=False)


def raise_gradio_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an endpoint: a ValueError is reported with its message, any other error with a general one."""

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
    """Wrap an event handler: an error shows one notice and changes nothing.

    If an error were raised to Gradio, it would cover every output of the event with an error label that blocks clicks
    until the page is reloaded.
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
    return f"That did not work ({type(error).__name__}); see the server log. Nothing was lost."
