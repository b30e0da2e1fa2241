"""A newcomer follows connectors/README.md to the letter: write, install, check and use a connector."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from connectors.conformance.__main__ import main
from connectors.conformance.promises import PROMISES

ROOT = Path(__file__).parents[2]
README = (ROOT / "connectors" / "README.md").read_text()

USE = """
import asyncio, json, sys
from connectors.conformance.http_bench import served
from connectors.protocol import Delivery
from connectors.receiver import create_app
from connectors.registry import build, connector_types

async def main():
    async with served(create_app()) as base:
        settings = {"type": "sms_gateway", "url": f"{base}/hooks/sms", "key_env": "SMS_KEY"}
        connector = build("texts", settings)
        params = {"to": "+14155550134", "text": "Hi"}
        receipt = await connector.send(Delivery(id="a1", customer_id="c1", kind="sms", params=params, decided_at_ms=1))
        await connector.close()
    types = [known.type for known in connector_types()]
    print(json.dumps({"last": types[-1], "result": receipt.result.value, "reference": receipt.reference}))

asyncio.run(main())
"""


def block(name: str) -> str:
    """The README's one block of code whose first line names the file ``name``."""
    [found] = re.findall(rf"```\w+\n(# {re.escape(name)}\n.*?)```", README, re.DOTALL)
    return str(found)


def run(*arguments: str, path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(path), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the README's package is installed in."""
    folder, target = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("installed")
    for name in ("sms_gateway.py", "pyproject.toml", "sms_gateway_example.py"):
        (folder / name).write_text(block(name))
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check")
    done = run("-m", "pip", "install", *options, "--target", str(target), str(folder), path=target)
    assert done.returncode == 0, done.stderr
    return target


def test_writing_and_registering_takes_fewer_than_60_lines() -> None:
    lines = (block("sms_gateway.py") + block("pyproject.toml")).splitlines()
    assert len([line for line in lines if line.strip()]) < 60


def test_the_installed_connector_keeps_every_promise(installed: Path) -> None:
    done = run("-m", "connectors.conformance", "sms_gateway", path=installed)
    *kept, total = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(": ")[2] for line in kept] == [promise.name.replace("_", " ") for promise in PROMISES]
    assert total == f"{len(PROMISES)} promises kept, 0 broken"


def test_the_installed_connector_sends(installed: Path) -> None:
    done = run("-c", USE, path=installed, SMS_KEY="s3cret-of-ours", JOURNEY_PRIVATE_TARGETS="127.0.0.0/8")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"last": "sms_gateway", "result": "delivered", "reference": "local-a1"}


def test_a_connector_that_breaks_a_promise_is_told_which_and_how(installed: Path, tmp_path: Path) -> None:
    """The entry points stay those that are installed; a module that shadows the installed one has the fault."""
    faulty = block("sms_gateway.py").replace("delivery.id, content", 'f"{delivery.id}-{delivery.attempt}", content')
    (tmp_path / "sms_gateway.py").write_text(faulty)
    done = run("-m", "connectors.conformance", path=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{installed}")
    assert done.returncode == 1
    assert (
        "BROKEN  sms_gateway: it passes the id on and repeats itself to the letter\n"
        "        the id in a request: expected '7d0c41', saw '7d0c41-1'\n"
    ) in done.stdout


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((), "No installed package announces a type under journey.connectors, so nothing was checked.\n"),
        (("fax",), "No installed package announces the type fax under journey.connectors.\n"),
    ],
)
def test_a_suite_that_finds_nothing_fails(
    names: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(names)) == 2
    assert capsys.readouterr() == ("", said)
