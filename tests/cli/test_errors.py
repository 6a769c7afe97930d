"""An error of a command is one message and an exit code."""

from __future__ import annotations

import pytest
import typer

from snowmelt.cli.errors import exit_codes
from snowmelt.errors import InputError


def test_a_file_that_ends_too_early_is_one_message(monkeypatch, capsys):
    """Click would say "Aborted!" of any EOFError, and exit with 1."""
    with pytest.raises(typer.Exit) as stopped, exit_codes():
        raise EOFError("No data left in file")
    assert stopped.value.exit_code == 2
    assert "a file ends too early (No data left in file)" in capsys.readouterr().err


def test_a_long_value_does_not_fill_the_screen(capsys):
    with pytest.raises(typer.Exit), exit_codes():
        raise InputError(f"unknown solver {'a' * 10_000}\n  take ddim")
    first, second = capsys.readouterr().err.splitlines()
    assert len(first) < 600
    assert first.startswith("Error: unknown solver aaa")
    assert second == "  take ddim"
