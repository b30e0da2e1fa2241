"""Settings: what is wrong with one is said under its name, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.commands.terminal import settings_with
from orchestrator.errors import ConfigurationError
from orchestrator.gateway.keys import read_keys
from orchestrator.gateway.server import GatewayServer

EMPTY = "is empty, which would be the folder that this runs in; name one, or leave it out"

WRONG = {
    ("JOURNEY_DATA", ""): EMPTY,
    ("JOURNEY_RULES", ""): EMPTY,
    ("JOURNEY_KEYS_FILE", ""): EMPTY,
    ("JOURNEY_TLS_CERTIFICATE", ""): EMPTY,
    ("JOURNEY_KAFKA_CA_FILE", ""): EMPTY,
    ("JOURNEY_FUTURE_TOLERANCE_S", "inf"): "Input should be less than or equal to 31536000",
    ("JOURNEY_TIMELINE_DAYS", "inf"): "Input should be less than or equal to 36500",
    ("JOURNEY_REQUEST_TIMEOUT_S", "1e300"): "Input should be less than or equal to 3600",
    ("JOURNEY_SESSION_TIMEOUT_S", "inf"): "Input should be less than or equal to 1800",
    ("JOURNEY_GRACE_MS", "nan"): "Input should be a valid integer, unable to parse string as an integer",
    ("JOURNEY_KAFKA_REPLICATION", "99999"): "Input should be less than or equal to 32767",
    ("JOURNEY_KAFKA_BOOTSTRAP", ""): '"" is no address of a broker: write host:port, several with commas',
    ("JOURNEY_KAFKA_BOOTSTRAP", "a:9092,b:port"): (
        '"b:port" is no address of a broker: write host:port, several with commas'
    ),
    ("JOURNEY_PRIVATE_TARGETS", "10.0.0.0/99"): (
        "'10.0.0.0/99' does not appear to be an IPv4 or IPv6 network. Write 10.0.0.0/8, a host or host:port"
    ),
}


@pytest.mark.parametrize(("setting", "said"), WRONG.items(), ids=["=".join(setting) for setting in WRONG])
def test_a_wrong_setting_is_told_by_name(setting: tuple[str, str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*setting)
    with pytest.raises(ConfigurationError) as refused:
        settings_with()
    assert str(refused.value) == f"Settings are wrong.\n{setting[0]}: {said}"


@pytest.mark.parametrize("bootstrap", ["kafka:9092", "a.example:9092, 10.0.0.7:9093", "[::1]:9092", "kafka"])
def test_addresses_of_brokers_are_taken(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNEY_KAFKA_BOOTSTRAP", bootstrap)
    assert settings_with().kafka_bootstrap == bootstrap


@pytest.mark.parametrize("text", ["keys:\n- {name: a, expires_at: 2026-13-45}\n", "[" * 5_000], ids=["a date", "deep"])
def test_a_key_file_that_the_parser_stumbles_over_is_not_yaml(text: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        read_keys(path)
    assert str(refused.value).startswith(f"The key file {path}")
    assert str(refused.value).endswith(" is not YAML.")


async def _nothing(*_: object) -> None:
    """An application that is never asked."""


@pytest.mark.parametrize("host", ["192.0.2.1", "a..b", "x" * 80], ids=["another machine's", "no label", "too long"])
async def test_an_address_that_this_machine_has_not_is_told_with_the_setting_that_names_it(host: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await GatewayServer(_nothing, host).__aenter__()
    assert str(refused.value).startswith(f'"{host}" is no address of this machine (')
    assert str(refused.value).endswith("). Correct --host or JOURNEY_HOST.")
