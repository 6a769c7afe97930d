"""The studio's server: on 127.0.0.1 alone, without telemetry, and gone without a trace."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import socket
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from unittest import mock

from snowmelt.errors import InputError, optional
from snowmelt.studio.place import Place

if TYPE_CHECKING:
    import gradio as gr
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HOST", "Studio", "free_port", "in_loop"]

Result = TypeVar("Result")

HOST = "127.0.0.1"
# What the page may load and talk to: this server. So nothing leaves the machine, whatever Gradio asks for
# (Content Security Policy, https://www.w3.org/TR/CSP3/)
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; "
    "frame-ancestors 'none'; form-action 'self'; base-uri 'self'"
)


class Studio:
    """The running page, as a context: inside it the page can be reached at `url`.

    Args:
        place: what the page may see.
        port: where to listen; 0 takes any free port.

    Raises:
        InputError: Gradio is not installed, or another program uses the port.
    """

    def __init__(self, place: Place, port: int = 0) -> None:
        self.place = place
        self.port = free_port(port)
        self.url = f"http://{HOST}:{self.port}/"

    def __enter__(self) -> Studio:
        self._temporary = TemporaryDirectory(prefix="snowmelt-studio-")
        prepare(self._temporary.name)
        with without_stubs():
            optional("gradio", "the studio", "studio")
        from snowmelt.studio.page import build

        self.page = build(self.place)
        in_loop(launch, self.page, self.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.page.close(verbose=False)
        self._temporary.cleanup()

    def wait(self, *, show: bool) -> None:
        """Open the page in the browser, if wanted, load what sampling needs, and wait for Ctrl-C."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            if show:
                webbrowser.open(self.url)
            import snowmelt.sampling  # noqa: F401  (the page stands; now torch is loaded)

            Event().wait()


def free_port(port: int) -> int:
    """Return the port if it is free; for 0, one that is.

    Raises:
        InputError: another program uses it.
    """
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise InputError(
                f"port {port} cannot be used ({getattr(error, 'strerror', None) or error}): give another "
                "one, such as --port 7870, or --port 0 for any that is free"
            ) from error
        free: int = trial.getsockname()[1]
        return free


def prepare(temporary: str) -> None:
    """Prepare the environment that Gradio reads when it is imported: nothing in it may change what we say."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": temporary,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


@contextmanager
def without_stubs() -> Iterator[None]:
    """Import Gradio in half the time: it would write a type stub of each component beside its source.

    It leaves out a component that has no source file; here, all of them say so.
    """
    getfile = inspect.getfile

    def hidden(item: Any) -> str:
        if getattr(item, "__module__", "").startswith("gradio."):
            raise OSError("no stub is wanted")
        return getfile(item)

    with mock.patch("inspect.getfile", hidden):
        yield


def in_loop(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function inside an event loop: where none runs, Gradio makes some and never closes them."""

    async def called() -> Result:
        return function(*arguments)

    return asyncio.run(called())


class Policed:
    """A web application whose answers all say what their page may load."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back with the policy."""

        async def policed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, policed)


def launch(page: gr.Blocks, port: int) -> None:
    """Start the server of a page and return at once."""
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    theme = gr.themes.Base(
        primary_hue="sky",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    page.queue(default_concurrency_limit=8)
    page.launch(
        server_name=HOST,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        inbrowser=False,
        inline=False,
        share=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        root_path="",
        max_file_size="50mb",
        theme=theme,
        css_paths=Path(__file__).with_name("style.css"),
        app_kwargs={
            "middleware": [
                # another site's name for this address must not reach it (DNS rebinding)
                Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]),
                Middleware(Policed),
            ],
        },
    )
