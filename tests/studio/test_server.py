"""The server: on this machine alone, closed to what lies outside, and gone without a trace."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest
from typer.testing import CliRunner

from snowmelt.cli import app
from snowmelt.errors import InputError
from snowmelt.studio.place import Place
from snowmelt.studio.server import HOST, Studio, free_port, prepare


def test_a_used_port_is_one_sentence(outputs):
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        result = CliRunner().invoke(app, ["studio", str(outputs), "--port", str(port), "--no-open"])
    assert result.exit_code == 2
    assert f"port {port} cannot be used" in result.output
    assert "--port 0 for any" in result.output


def test_any_free_port_can_be_asked_for():
    assert free_port(0) > 0
    with pytest.raises(InputError, match="port 70000 cannot be used"):
        free_port(70_000)


def test_a_place_that_is_not_there_is_one_sentence(tmp_path):
    result = CliRunner().invoke(app, ["studio", str(tmp_path / "none"), "--no-open"])
    assert result.exit_code == 2
    assert "does not exist: give a checkpoint, or a folder" in result.output


@pytest.fixture
def environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_no_variable_of_gradio_survives(environment, tmp_path):
    """One of them would show files outside the folder, another would share the page with the world."""
    os.environ |= {"GRADIO_ALLOWED_PATHS": "/", "GRADIO_SHARE": "True", "GRADIO_SERVER_NAME": "0.0.0.0"}
    prepare(str(tmp_path))
    ours = {name: value for name, value in os.environ.items() if name.startswith("GRADIO_")}
    assert ours == {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(tmp_path)}


@contextmanager
def running(outputs: Path) -> Iterator[Studio]:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(os, "environ", os.environ.copy())
        with Studio(Place(outputs, "cpu")) as studio:
            yield studio


@pytest.fixture(scope="module")
def studio(gradio, outputs) -> Iterator[Studio]:
    with running(outputs) as studio:
        yield studio


def ask(studio: Studio, path: str, **headers: str) -> tuple[int, str]:
    """Return the status of an answer, and its policy."""
    with closing(HTTPConnection(HOST, studio.port, timeout=60)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["Content-Security-Policy"] or ""


def test_the_page_may_load_nothing_from_elsewhere(studio):
    status, policy = ask(studio, "/")
    assert status == 200
    assert "default-src 'self'" in policy


def test_another_name_for_this_address_is_refused(studio):
    """So that no site in the same browser can read the page (DNS rebinding)."""
    assert ask(studio, "/config", Host="example.org")[0] == 400


def test_it_listens_on_this_machine_alone(studio):
    (listening,) = {sock.getsockname()[0] for server in studio.page.server.servers for sock in server.sockets}
    assert listening == HOST


@pytest.mark.parametrize(
    "name", ["{}/secret.json", "{}/outputs/run/checkpoints/latest.pth", "/etc/passwd", "../../../etc/passwd"]
)
def test_gradio_serves_no_file(studio, outputs, name):
    path = name.format(outputs.parent)
    for route in ("file=", "file/"):
        assert ask(studio, f"/gradio_api/{route}{quote(path)}")[0] in (403, 404)
    assert ask(studio, f"/static/{quote(path)}")[0] in (403, 404)


def test_nothing_is_left_behind(gradio, outputs):
    with running(outputs) as studio:
        folder = Path(studio._temporary.name)
        assert folder.exists()
    assert not folder.exists()
    free_port(studio.port)
