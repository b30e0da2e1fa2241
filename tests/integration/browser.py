"""A real browser for tests: Chromium without a window, driven over its debugging pipe (Chrome DevTools Protocol)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--window-size=1360,700",
)


class Page:
    """One open page. ``evaluate`` runs JavaScript in it, as a person's browser would."""

    def __init__(self, reader: asyncio.StreamReader, commands: int) -> None:
        self._reader = reader
        self._commands = commands
        self._number = 0
        self._session = ""

    async def open(self, url: str) -> None:
        """Show ``url`` in a page 1360 wide."""
        target = await self._ask("Target.createTarget", url="about:blank")
        attached = await self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        await self._ask("Page.navigate", url=url)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; fail the test when it throws."""
        answer = await self._ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str, within_s: float = 30) -> Any:
        """Return the first value of an expression that is true."""
        async with asyncio.timeout(within_s):
            while True:
                if value := await self.evaluate(expression):
                    return value
                await asyncio.sleep(0.05)

    async def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key, as on a keyboard."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}
        await self._ask("Input.dispatchKeyEvent", type="keyDown", **named)
        await self._ask("Input.dispatchKeyEvent", type="keyUp", **named)

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        command: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        async with asyncio.timeout(60):
            while True:
                answer = json.loads((await self._reader.readuntil(b"\0"))[:-1])
                if answer.get("id") == self._number:
                    assert "error" not in answer, answer["error"]
                    return dict(answer["result"])


@contextlib.asynccontextmanager
async def browsing(url: str) -> AsyncIterator[Page]:
    """Open a page, and close the browser at the end."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("There is no browser: run tests/install-debian, or install Chromium.")
    # Chromium reads commands from descriptor 3 and writes answers to 4.
    theirs_in, commands = os.pipe()
    answers, theirs_out = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        script = 'exec "$0" "$@" 3<&$IN 4>&$OUT'
        arguments = (*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}")
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", script, program, *arguments),
            pass_fds=(theirs_in, theirs_out),
            env={**os.environ, "IN": str(theirs_in), "OUT": str(theirs_out), "HOME": profile},
            stderr=asyncio.subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        reader = asyncio.StreamReader(limit=2**26)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(answers, "rb")
        )
        try:
            page = Page(reader, commands)
            await page.open(url)
            yield page
        finally:
            process.kill()
            await process.wait()
            transport.close()
            os.close(commands)
