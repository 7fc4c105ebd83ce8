"""How the page is served: which hosts and websites may talk to it, and how much of a visit is kept in memory."""

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

MAX_UPLOAD = "500mb"  # of one file, a LoRA of high rank; the checks on photographs are stricter
# Gradio keeps about 0.8 MB for each session, and every API call without one starts its own.
MAX_SESSIONS = 100
CACHE_SWEEP = (
    3600,
    24 * 3600,
)  # Gradio's copies, uploads among them: every hour those older than a day, in seconds
HOSTS_VARIABLE = "ATELIER_ALLOWED_HOSTS"
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\[\]]+)(?::\d+)?")
SHARE_HOSTS = ".gradio.live"
HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "same-origin"}


def launch_options(
    copies: BrowserCopies, *, listen: str = "127.0.0.1", hosts: Iterable[str] = (), share: bool = False
) -> dict[str, Any]:
    """Return the arguments of ``Blocks.launch`` that do not depend on where the page is served, and its guard.

    ``hosts`` are further names under which the page is reached, beside those of :func:`allowed_hosts`.
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
        "app_kwargs": {"middleware": [Middleware(HostGuard, hosts=allowed)]},
    }


def allowed_hosts(
    environment: Mapping[str, str],
    *,
    listen: str = "127.0.0.1",
    hosts: Iterable[str] = (),
    share: bool = False,
) -> frozenset[str]:
    """Return the host names that are answered, beside IP addresses and localhost, in small letters.

    They come from the command line, from ATELIER_ALLOWED_HOSTS (separated by commas), from a Hugging Face Space and,
    where the server listens to more than this machine, from the machine's own name. One with a leading dot stands for
    all names below it, as host but not as the website that sends. Raises ValueError for one that is no host name.
    """
    own = [*hosts, *environment.get(HOSTS_VARIABLE, "").split(",")]
    if listen not in ("127.0.0.1", "localhost", "::1"):
        name = socket.gethostname()
        own += [name, f"{name}.local", *([] if _is_address(listen) else [listen])]
    if share:
        own.append(SHARE_HOSTS)
    if "SPACE_HOST" in environment:
        own += [*environment["SPACE_HOST"].split(","), "huggingface.co"]  # where a Space is embedded
    names = [name.strip().lower().rstrip(".") for name in own if name.strip()]
    for name in names:
        if not HOST.fullmatch(name) or re.search(r":\d+$", name):
            raise ValueError(
                f"The allowed host {name[:80]!r} is no host name; write it like atelier.example.org, without "
                "https:// and without a port."
            )
    return frozenset(names)


class HostGuard:
    """ASGI middleware: answers only requests for a known host that no other website has sent.

    A website that a visitor has open can send requests to a server on the visitor's machine: under the server's address,
    when it carries its own ``Origin``, or under its own name, made to point here (DNS rebinding), when ``Host`` is that
    name. An IP address as host cannot be rebound. Programs send no ``Origin``.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 with one sentence, or hand the request on."""
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
        """Return why a request with these headers is not answered; "" when it is."""
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


def _name(host: str) -> str:
    """Return the name in a Host header, without its port; "" for none that can be read."""
    found = HOST.fullmatch(host.strip().lower())
    return found[1].rstrip(".") if found else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _with_headers(send: Send) -> Send:
    """Return ``send`` with what every answer says beside its own headers."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            answered = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                answered.setdefault(name, value)
        await send(message)

    return sending
