"""The terminal: where commands print, how they fail, and the options that several of them take."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.console import Console

from orchestrator.errors import ConfigurationError
from orchestrator.settings import Settings

out = Console()
err = Console(stderr=True)

PROBLEMS = 1
WRONG_USE = 2

Rules = Annotated[Path | None, typer.Option("--rules", help="Folder of journeys and rules.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder of the embedded store.")]
Host = Annotated[str | None, typer.Option("--host", help="Address to bind to.")]
Port = Annotated[int | None, typer.Option("--port", help="Port to serve on; 0 takes a free one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Url = Annotated[str, typer.Option("--url", envvar="JOURNEY_URL", help="The gateway to talk to.")]
Key = Annotated[
    str, typer.Option("--key", "--write-key", envvar=["JOURNEY_KEY", "JOURNEY_WRITE_KEY"], help="Key for the gateway.")
]

GATEWAY = "http://127.0.0.1:8080"


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong and end with an exit code. What of a name is no text is shown escaped."""
    shown = message.encode(errors="backslashreplace").decode()
    err.print(shown, style="red", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(code)


def settings_with(**overrides: Any) -> Settings:
    """Return the settings of the environment, with command-line options on top."""
    given = {name: value for name, value in overrides.items() if value is not None}
    _refuse_unknown(os.environ)
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = [_setting_problem(one["loc"], one["msg"]) for one in error.errors()]
        raise ConfigurationError("Settings are wrong.\n" + "\n".join(lines)) from None
    except SettingsError as error:
        field = re.search(r'field "(\w+)"', str(error))
        name = f"JOURNEY_{field.group(1).upper()}" if field else str(error)
        raise ConfigurationError(f'Settings are wrong.\n{name}: Input should be a JSON list, such as ["a"]') from None


def _setting_problem(where: tuple[int | str, ...], message: str) -> str:
    """Return one line; what is wrong between several settings has no place, and its message names them."""
    message = message.removeprefix("Value error, ")
    return f"JOURNEY_{'_'.join(map(str, where)).upper()}: {message}" if where else message


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    """A setting that is misspelt must not be taken for one that was left at its default."""
    known = {f"JOURNEY_{name.upper()}" for name in Settings.model_fields} | CLIENT_VARIABLES
    unknown = sorted(name for name in environ if name.startswith("JOURNEY_") and name not in known)
    if unknown:
        close = get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigurationError(f"Settings are wrong.\n{unknown[0]}: there is no such setting.{hint}")


#: What the commands that talk to a gateway read besides the settings.
CLIENT_VARIABLES = frozenset({"JOURNEY_URL", "JOURNEY_KEY", "JOURNEY_WRITE_KEY"})


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
