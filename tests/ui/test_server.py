"""Access to the server and the size of its session state, tested with real HTTP requests on this machine."""

import http.client
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.events import api

import app
from ui.html import BrowserCopies
from ui.server import CACHE_SWEEP, MAX_SESSIONS, NO_COUNT, allowed_hosts, launch_options

OWN_NAME = "atelier.example.org"
REFUSED_HOST = "Atelier does not answer for the host"
REFUSED_WEBSITE = "Atelier does not take requests from the website"


@pytest.fixture(scope="module")
def copies() -> Iterator[BrowserCopies]:
    made = BrowserCopies()
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(copies: BrowserCopies) -> Iterator[gr.Blocks]:
    """A page with one endpoint, served with Atelier's options."""

    def double(number: int) -> int:
        """Return twice the number."""
        return 2 * number

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")
        with gr.Blocks(analytics_enabled=False) as blocks:
            gr.State({"seen": []})
            api(double, api_name="double")
        options = launch_options(copies, hosts=[OWN_NAME])
        blocks.queue().launch(**options, prevent_thread_lock=True, quiet=True)
        yield blocks
        blocks.close(verbose=False)


def ask(
    served: gr.Blocks, method: str, path: str, *, host: str = "", body: bytes | None = None, **headers: str
) -> tuple[int, str, Any]:
    """Send one request unchanged; return its status, its text and its headers."""
    connection = http.client.HTTPConnection("127.0.0.1", served.server_port, timeout=20)
    named = {"Host": host or f"127.0.0.1:{served.server_port}"}
    connection.request(
        method, path, body=body, headers=named | {k.replace("_", "-"): v for k, v in headers.items()}
    )
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    connection.close()
    return answer.status, text, answer.headers


def upload(served: gr.Blocks, **headers: str) -> tuple[int, str, Any]:
    """Upload a file as a form on another website would."""
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
    form = {"Content_Type": "multipart/form-data; boundary=x"}
    return ask(served, "POST", "/gradio_api/upload", body=body, **form, **headers)


def call(served: gr.Blocks, **headers: str) -> tuple[int, str, Any]:
    """Start a call of the endpoint."""
    body = json.dumps({"data": [21]}).encode()
    return ask(
        served, "POST", "/gradio_api/call/double", body=body, Content_Type="application/json", **headers
    )


def own(served: gr.Blocks) -> str:
    return f"127.0.0.1:{served.server_port}"


def test_the_page_begins_with_the_script_that_gradio_must_find(served: gr.Blocks) -> None:
    for method in ("GET", "HEAD"):
        status, text, headers = ask(served, method, "/")
        assert status == 200
        if method == "GET":
            assert text.index(NO_COUNT) < text.index('type="module"')
            assert int(headers["content-length"]) == len(text.encode())
            assert text.rstrip().endswith("</html>")
    assert NO_COUNT not in ask(served, "GET", "/config")[1]


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://evil.gradio.live", "http://127.0.0.1:1"]
)
def test_another_website_can_neither_upload_nor_call(served: gr.Blocks, origin: str) -> None:
    for asked in (upload, call):
        status, text, _ = asked(served, Origin=origin)
        assert status == 403
        assert text.startswith(REFUSED_WEBSITE)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7860",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "a@b",
        "[evil]",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/config"),
        ("GET", "/gradio_api/queue/data?session_hash=a"),
        ("GET", "/gradio_api/heartbeat/a"),
        ("GET", "/gradio_api/file=README.md"),
        ("POST", "/gradio_api/queue/join"),
        ("POST", "/gradio_api/upload"),
    ],
)
def test_a_rebound_name_is_not_answered(served: gr.Blocks, host: str, method: str, path: str) -> None:
    status, text, _ = ask(served, method, path, host=host)
    assert status == 403
    assert text.startswith(REFUSED_HOST)
    assert "\n" not in text


def test_a_forwarded_name_is_checked_as_well(served: gr.Blocks) -> None:
    assert ask(served, "GET", "/config", X_Forwarded_Host="evil.example")[0] == 403
    assert ask(served, "GET", "/config", X_Forwarded_Host=OWN_NAME)[0] == 200


@pytest.mark.parametrize(
    "host", ["localhost", "localhost.", "LOCALHOST", "atelier.localhost", "[::1]", "192.168.1.5"]
)
def test_this_machine_and_addresses_are_answered(served: gr.Blocks, host: str) -> None:
    status, _, headers = ask(served, "GET", "/config", host=f"{host}:{served.server_port}")
    assert status == 200
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_page_itself_a_program_and_an_own_name_are_served(served: gr.Blocks) -> None:
    for origin in ({}, {"Origin": f"http://{own(served)}"}, {"Origin": f"https://{OWN_NAME}"}):
        assert upload(served, **origin)[0] == 200
        assert call(served, **origin)[0] == 200
    status, _, _ = call(served, host=OWN_NAME, Origin=f"https://{OWN_NAME}")
    assert status == 200


def test_a_preflight_of_another_website_is_not_granted(served: gr.Blocks) -> None:
    headers = {"Origin": "http://evil.example", "Access_Control_Request_Method": "POST"}
    assert "Access-Control-Allow-Origin" not in ask(served, "OPTIONS", "/gradio_api/upload", **headers)[2]


def test_only_copies_are_served_as_files(served: gr.Blocks, copies: BrowserCopies, tmp_path: Path) -> None:
    kept = tmp_path / "adapter.safetensors"
    kept.write_bytes(b"private")
    for path in ("app.py", app.__file__, "/etc/passwd", str(kept)):
        assert ask(served, "GET", f"/gradio_api/file={path}")[0] == 403
    status, text, _ = ask(served, "GET", f"/gradio_api/file={copies.copy(kept)}")
    assert (status, text) == (200, "private")


def test_own_hosts_come_from_the_command_line_and_the_environment() -> None:
    there = {"ATELIER_ALLOWED_HOSTS": "One.example, two.example,", "SPACE_HOST": "me-atelier.hf.space"}
    assert allowed_hosts({}) == frozenset()
    assert allowed_hosts(there, hosts=["three.example"]) == {
        "one.example", "two.example", "three.example", "me-atelier.hf.space", "huggingface.co",
    }  # fmt: skip
    assert ".gradio.live" in allowed_hosts({}, share=True)
    assert "atelier" in allowed_hosts({}, listen="atelier")


@pytest.mark.parametrize("host", ["https://one.example", "one.example:80", "one.example/page", "a b"])
def test_an_allowed_host_that_is_none_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="is not a host name; write it like"):
        allowed_hosts({}, hosts=[host])


def test_calls_without_a_session_do_not_pile_up(served: gr.Blocks) -> None:
    """Each such call starts a session; by default, Gradio keeps 10,000."""
    for _ in range(MAX_SESSIONS + 20):
        status, text, _ = call(served)
        ask(served, "GET", f"/gradio_api/call/double/{json.loads(text)['event_id']}")
        assert status == 200
    assert MAX_SESSIONS - 1 <= len(served.app.state_holder.session_data) <= MAX_SESSIONS


def test_the_program_serves_with_these_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["app.py", "--allow-host", OWN_NAME, "--host", "0.0.0.0"])
    launched: dict[str, Any] = {}
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, **options: launched.update(options, blocks=self))
    monkeypatch.setattr("app.atexit.register", lambda _: None)
    handlers: dict[int, Any] = {}
    monkeypatch.setattr("app.signal.signal", handlers.__setitem__)
    app.main()
    assert handlers[signal.SIGTERM] is signal.default_int_handler, "copies are removed as after Ctrl+C"
    assert launched["state_session_capacity"] == MAX_SESSIONS
    assert launched["blocks"].delete_cache == CACHE_SWEEP
    guard = launched["app_kwargs"]["middleware"][0]
    assert OWN_NAME in guard.kwargs["hosts"]
    assert all(Path(folder).name.startswith("atelier-") for folder in launched["allowed_paths"])
