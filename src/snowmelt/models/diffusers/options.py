"""Shared code of the tables of options: defaults for absent options, and errors that name an option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snowmelt.errors import InputError

__all__ = ["complete", "expect", "refusal"]


def complete(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config` with `defaults` for what it leaves out; names that begin with _ are left out.

    Raises:
        InputError: it has an option that is not among `defaults`.

    >>> complete({"beta_end": 0.01, "_class_name": "DDPMScheduler"}, {"beta_start": 1e-4, "beta_end": 0.02})
    {'beta_start': 0.0001, 'beta_end': 0.01}
    >>> complete({"shift": 3.0}, {"beta_start": 1e-4})
    Traceback (most recent call last):
    snowmelt.errors.InputError: option shift = 3.0 cannot be expressed; expected none of that name
    """
    public = {name: value for name, value in config.items() if not name.startswith("_")}
    for name in public.keys() - defaults.keys():
        raise refusal(name, public[name], "none of that name")
    return {**defaults, **public}


def expect(options: Mapping[str, Any], accepted: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse options with another value than those accepted.

    >>> expect({"act_fn": "gelu"}, {"act_fn": ("silu", "swish")})
    Traceback (most recent call last):
    snowmelt.errors.InputError: option act_fn = 'gelu' cannot be expressed; expected 'silu' or 'swish'
    """
    for name, values in accepted.items():
        if options[name] not in values:
            raise refusal(name, options[name], " or ".join(map(repr, values)))


def refusal(name: str, value: Any, expected: str) -> InputError:
    """Return the error that names what cannot be expressed, and says what can."""
    return InputError(f"option {name} = {value!r} cannot be expressed; expected {expected}")
