"""Atelier's entry point: ``python app.py`` serves the page on this machine with the embedded base, offline."""

import argparse
import atexit
import logging
import os
import signal
import sys

MAX_WAITING = 64  # requests in Gradio's queue
QUEUE_SLEEP_S = 0.01  # between two looks at that queue; Gradio's own 0.001 costs an idle server 5 % of a core


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Personalize Stable Diffusion from a few photographs.")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument("--port", type=int, help="port to listen on (default: the first free one from 7860)")
    parser.add_argument("--base", default="embedded", help="embedded, a diffusers folder, a file or a Hub id")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="additional host name of the page, for example behind a reverse proxy; may be repeated",
    )
    parser.add_argument(
        "--share", action="store_true", help="also offer a public link, which needs the network"
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return parser.parse_args()


def keep_own_uploads() -> None:
    """Give Gradio a temporary folder of this process: it deletes its copies at the end, and by default all share one."""
    from pipelines.files import TemporaryFolder

    if not os.environ.get("GRADIO_TEMP_DIR"):
        folder = TemporaryFolder("atelier-gradio-")
        os.environ["GRADIO_TEMP_DIR"] = str(folder.path)
        atexit.register(folder.close)


def prepare_environment() -> None:
    """Disable telemetry and verbose logging, and share the processor. Libraries read these variables at import."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Spinning idle threads make training many times slower as soon as the browser needs a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("NO_PROXY", "no_proxy"):  # Gradio checks its own address, which must not go through a proxy
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "localhost,127.0.0.1")))


def main() -> None:
    """Build the page and serve it until interrupted."""
    wanted = arguments()
    prepare_environment()
    try:
        keep_own_uploads()
    except ValueError as error:
        sys.exit(str(error))
    from pipelines.files import data_root, prepare_data_root
    from pipelines.studio import Studio
    from ui.app import build
    from ui.html import BrowserCopies
    from ui.server import launch_options

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        prepare_data_root(data_root())
        copies = BrowserCopies()
        options = launch_options(copies, listen=wanted.host, hosts=wanted.allow_host, share=wanted.share)
        studio = Studio(base=wanted.base)
    except ValueError as error:
        sys.exit(str(error))
    atexit.register(copies.close)
    atexit.register(studio.close)
    # As for Ctrl+C: without this, the functions registered above would not be called.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    page = build(studio, copies).queue(max_size=MAX_WAITING)
    page._queue.sleep_when_free = QUEUE_SLEEP_S
    page.launch(
        **options,
        server_name=wanted.host,
        server_port=wanted.port,
        share=wanted.share,
        inbrowser=wanted.open,
    )


if __name__ == "__main__":
    main()
