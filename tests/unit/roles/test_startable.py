"""What is published can start; what cannot, after all, is told with the way back."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY

from orchestrator.errors import ConfigurationError, RulebookRefused
from orchestrator.roles.delivery import RunningConnectors, refuse_unstartable
from orchestrator.roles.embedded import embedded, roll_back
from orchestrator.roles.health import health_app
from orchestrator.rulebook.load import load_rulebook_files
from orchestrator.settings import Settings

PLAN = b"events:\n  signed_up: {}\n"
UNSET = (
    'connector "crm": setting "secret_env" names the environment variable "CRM_SECRET", which is not set. '
    "Set CRM_SECRET, or leave secret_env out."
)
WRONG = {"CRM_SECRET": "no secret"}
RIGHT = {"CRM_SECRET": "whsec_" + "A" * 32}


def files(*, secret: bool) -> dict[str, bytes]:
    extra = ", secret_env: CRM_SECRET" if secret else ""
    text = f'connectors:\n  crm: {{type: webhook, kind: webhook, settings: {{url: "https://crm.example/"{extra}}}}}\n'
    return {"tracking_plan.yaml": PLAN, "connectors.yaml": text.encode()}


SECRET = load_rulebook_files(files(secret=True))
OPEN = load_rulebook_files(files(secret=False))


async def test_a_connector_that_cannot_start_is_refused_with_its_fault() -> None:
    assert SECRET.ok
    with pytest.raises(RulebookRefused) as refused:
        await refuse_unstartable(SECRET, {})
    assert str(refused.value) == f"{UNSET}\nNo process could start with these connectors."
    await refuse_unstartable(SECRET, RIGHT)
    await refuse_unstartable(OPEN, {})


async def test_a_variable_that_another_process_may_have_is_that_ones_matter_and_a_wrong_value_is_not() -> None:
    await refuse_unstartable(SECRET, {}, elsewhere=True)
    with pytest.raises(RulebookRefused, match="CRM_SECRET"):
        await refuse_unstartable(SECRET, WRONG, elsewhere=True)


async def test_a_process_that_could_not_start_anew_says_so_until_it_could(caplog: pytest.LogCaptureFixture) -> None:
    running = RunningConnectors(OPEN.connectors, {})

    async def ready() -> str | None:
        return None

    transport = httpx.ASGITransport(health_app(ready, lambda: running.notice))
    async with httpx.AsyncClient(transport=transport, base_url="http://health") as client:
        assert (await client.get("/readyz")).text == "ready"
        running.listen(SECRET)
        answer = await client.get("/readyz")
        assert answer.status_code == 200
        assert answer.text.splitlines()[0] == "ready"
        assert answer.text.splitlines()[-1] == UNSET
        assert REGISTRY.get_sample_value("journey_connectors_unstartable") == 1
        assert [one.levelno for one in caplog.records if UNSET in one.getMessage()] == [logging.ERROR]
        running.listen(OPEN)
        assert (await client.get("/readyz")).text == "ready"
        assert REGISTRY.get_sample_value("journey_connectors_unstartable") == 0


async def test_what_stands_in_the_way_is_told_with_503() -> None:
    async def full() -> str | None:
        return "Nothing can be written to the store: Redis: OOM. Make room for it, or mend what is named."

    transport = httpx.ASGITransport(health_app(full))
    async with httpx.AsyncClient(transport=transport, base_url="http://health") as client:
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, await full())


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    rules = tmp_path / "rules"
    rules.mkdir()
    for name, content in files(secret=False).items():
        (rules / name).write_bytes(content)
    return Settings(data=tmp_path / "data", rules=rules)


async def test_an_engine_refuses_to_publish_what_it_could_not_start_with(settings: Settings) -> None:
    async with embedded(settings, "http://127.0.0.1:9") as engine:
        before = engine.rulebooks.current.version
        for activate in (True, False):
            with pytest.raises(RulebookRefused, match="CRM_SECRET"):
                await engine.rulebooks.publish(files(secret=True), activate=activate)
        (settings.rules / "connectors.yaml").write_bytes(files(secret=True)["connectors.yaml"])
        with pytest.raises(RulebookRefused, match="CRM_SECRET"):
            await engine.rulebooks.publish_folder(settings.rules)
        assert engine.rulebooks.current.version == before
    async with embedded(settings, "http://127.0.0.1:9") as again:
        assert again.rulebooks.current.version == before, "neither does the folder's edit keep it from starting"


async def test_a_start_with_a_rulebook_that_cannot_start_any_more_names_the_way_back_and_that_works(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_SECRET", RIGHT["CRM_SECRET"])
    async with embedded(settings, "http://127.0.0.1:9") as engine:
        first = engine.rulebooks.current.version
        second = (await engine.rulebooks.publish(files(secret=True))).version
        assert engine.rulebooks.current.version == second
    monkeypatch.delenv("CRM_SECRET")

    with pytest.raises(ConfigurationError) as refused:
        async with embedded(settings, "http://127.0.0.1:9"):
            pass
    assert str(refused.value) == (
        f"{UNSET}\nThe rulebook in force, {second}, cannot start here. Mend what is named, or go back: "
        f"journey rollback {first} --data {settings.data}"
    )

    with pytest.raises(ConfigurationError, match='The version "nothing" was never published here'):
        await roll_back(settings, "nothing", "ann")
    await roll_back(settings, first, "ann")
    async with embedded(settings, "http://127.0.0.1:9") as engine:
        assert engine.rulebooks.current.version == first
        with pytest.raises(RulebookRefused, match="CRM_SECRET"):
            await engine.rulebooks.activate(second)
