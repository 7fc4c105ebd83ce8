"""How the page is served: which hosts and websites may send requests, and how many sessions stay in memory."""

import ipaddress
import os
import re
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.html import BrowserCopies
from ui.theme import look

MAX_UPLOAD = "500mb"  # per file, enough for a LoRA of high rank; photographs have stricter limits
# Gradio keeps about 0.8 MB per session, and every API call without a session creates one.
MAX_SESSIONS = 100
CACHE_SWEEP = (
    3600,
    24 * 3600,
)  # Gradio's copies, including uploads: every hour, those older than a day are deleted (seconds)
HOSTS_VARIABLE = "ATELIER_ALLOWED_HOSTS"
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\[\]]+)(?::\d+)?")
SHARE_HOSTS = ".gradio.live"
# Gradio's loading covers count tenths of a second in every frame, and the cover of the page's start never stops, which
# costs an idle page a tenth of a core. app.css hides the count, so it is dropped. Gradio's modules keep the function that
# they find, so it must be replaced before them.
NO_COUNT = r"""(() => {
  const next = window.requestAnimationFrame.bind(window);
  const counts = (callback) => /performance\.now\(\)[^;{}]*\/\s*(1e3|1000)\b/.test(Function.prototype.toString.call(callback));
  window.requestAnimationFrame = (callback) => counts(callback) ? 0 : next(callback);
})();"""
HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "same-origin"}


def launch_options(
    copies: BrowserCopies, *, listen: str = "127.0.0.1", hosts: Iterable[str] = (), share: bool = False
) -> dict[str, Any]:
    """Return the arguments of ``Blocks.launch`` for appearance, limits and the guard against foreign requests.

    ``hosts`` are additional host names of the page, see :func:`allowed_hosts`.
    """
    allowed = allowed_hosts(os.environ, listen=listen, hosts=hosts, share=share)
    return {
        **look(),
        "allowed_paths": [str(copies.folder)],
        "max_file_size": MAX_UPLOAD,
        "state_session_capacity": MAX_SESSIONS,
        "enable_monitoring": False,
        "run_history": False,
        "footer_links": ["api", "settings"],
        "app_kwargs": {"middleware": [Middleware(HostGuard, hosts=allowed), Middleware(FirstScript)]},
    }


def allowed_hosts(
    environment: Mapping[str, str],
    *,
    listen: str = "127.0.0.1",
    hosts: Iterable[str] = (),
    share: bool = False,
) -> frozenset[str]:
    """Return the allowed host names in lower case; IP addresses and localhost are always allowed.

    They come from the command line, from ATELIER_ALLOWED_HOSTS (separated by commas), from a Hugging Face Space and, if
    the server listens on more than the loopback address, from the machine's own name. A name with a leading dot allows
    all its subdomains as Host, but not as Origin. Raises ValueError for an invalid host name.
    """
    own = [*hosts, *environment.get(HOSTS_VARIABLE, "").split(",")]
    if listen not in ("127.0.0.1", "localhost", "::1"):
        name = socket.gethostname()
        own += [name, f"{name}.local", *([] if _is_address(listen) else [listen])]
    if share:
        own.append(SHARE_HOSTS)
    if "SPACE_HOST" in environment:
        own += [*environment["SPACE_HOST"].split(","), "huggingface.co"]  # embeds Spaces
    names = [name.strip().lower().rstrip(".") for name in own if name.strip()]
    for name in names:
        if not HOST.fullmatch(name) or re.search(r":\d+$", name):
            raise ValueError(
                f"The allowed host {name[:80]!r} is not a host name; write it like atelier.example.org, without "
                "https:// and without a port."
            )
    return frozenset(names)


class HostGuard:
    """ASGI middleware: refuses requests for an unknown host and requests sent by another website.

    A website that is open in the user's browser can send requests to a server on the user's machine: to the server's
    address, with the website's ``Origin``, or to its own name that resolves to this machine (DNS rebinding), with that
    name as ``Host``. An IP address as host cannot be rebound. Programs send no ``Origin``.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 with one sentence, or pass the request on."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(Headers(scope=scope))
        if not refusal:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "http":
            await PlainTextResponse(refusal, status_code=403)(scope, receive, _with_headers(send))
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "host or origin not allowed"})

    def refusal(self, headers: Headers) -> str:
        """Return why a request with these headers is refused; "" if it is allowed."""
        forwarded = [each.strip() for each in headers.get("x-forwarded-host", "").split(",") if each.strip()]
        asked = [host.lower() for host in (*(headers.getlist("host") or [""]), *forwarded)]
        mend = f"start with --allow-host NAME or set {HOSTS_VARIABLE}."
        for host in asked:
            if not self._known(_name(host)):
                return (
                    f"Atelier does not answer for the host {host[:80]!r}, because another website could be behind it; "
                    f"if the name is yours, {mend}"
                )
        for origin in headers.getlist("origin"):
            sender = origin.lower().partition("://")[2]
            if sender not in asked and _name(sender) not in self.hosts:
                return (
                    f"Atelier does not take requests from the website {origin[:80]!r}; if it is yours, {mend}"
                )
        return ""

    def _known(self, name: str) -> bool:
        below = any(host.startswith(".") and name.endswith(host) for host in self.hosts)
        return (
            below
            or name in self.hosts
            or name == "localhost"
            or name.endswith(".localhost")
            or _is_address(name)
        )


class FirstScript:
    """ASGI middleware: puts ``NO_COUNT`` at the beginning of the page, before Gradio's modules are evaluated."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for the page with the script in its head; any other request is passed on."""
        if scope["type"] != "http" or scope["path"] != "/":
            await self.app(scope, receive, send)
            return
        begun: list[Message] = []
        body = bytearray()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.append(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            page = bytes(body).replace(b"<head>", f"<head><script>{NO_COUNT}</script>".encode(), 1)
            if scope["method"] != "HEAD":
                MutableHeaders(scope=begun[0])["content-length"] = str(len(page))
            await send(begun[0])
            await send({"type": "http.response.body", "body": page})

        await self.app(scope, receive, sending)


def _name(host: str) -> str:
    """Return the name in a Host header without its port; "" if it cannot be parsed."""
    found = HOST.fullmatch(host.strip().lower())
    return found[1].rstrip(".") if found else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    """Return ``send`` with the headers that every response gets."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            answered = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                answered.setdefault(name, value)
        await send(message)

    return sending
