"""Which connectors there are, and what is said about settings that are wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConnectorMisconfigured
from connectors.registry import BUILT_IN, build, connector_types, expand_environment, settings_problems

ORDER = [
    *("voice", "twilio_voice", "sms", "whatsapp", "email", "push", "slack", "webhook", "kafka", "crm", "log"),
]
ALLOWED = f"Allowed: {', '.join(sorted(known.type for known in BUILT_IN))}."


def test_our_types_come_first_in_their_written_order() -> None:
    names = [known.type for known in connector_types()[: len(BUILT_IN)]]
    assert names == ORDER


def test_every_field_of_every_type_is_described() -> None:
    types = connector_types()
    assert types
    fields = [
        (known.type, name, field.description)
        for known in types
        for model in (known.parameters, known.action_params)
        for name, field in model.model_fields.items()
    ]
    assert fields
    assert [field for field in fields if not field[2]] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, f'connector "crm": setting "type" is missing. {ALLOWED}'),
        (
            {"type": "webhok"},
            f'connector "crm": type "webhok" is unknown. {ALLOWED} Did you mean "webhook"?',
        ),
        ({"type": 7}, f'connector "crm": type "7" is unknown. {ALLOWED}'),
        (
            {"type": "webhook"},
            'connector "crm": setting "url" is missing. It is: Address that deliveries are sent to.',
        ),
        (
            {"type": "webhook", "url": "crm.example.com"},
            'connector "crm": setting "url": must be an absolute http or https URL without a fragment. '
            "It is: Address that deliveries are sent to.",
        ),
        (
            {"type": "webhook", "urll": "http://h/", "url": "http://h/", "timeout_s": 0},
            'connector "crm": setting "timeout_s": input should be greater than 0. '
            "It is: Deadline of one attempt, connecting included, in seconds.\n"
            'connector "crm": setting "urll" is unknown. Allowed: callback_secret_env, connections_max, headers, '
            'method, secret_env, start_words, stop_words, timeout_s, unsubscribes_from, url. Did you mean "url"?',
        ),
        (
            {"type": "webhook", "url": "http://h/", "secret_env": "CRM_SECRET"},
            'connector "crm": setting "secret_env" names the environment variable "CRM_SECRET", which is not set. '
            "Set CRM_SECRET, or leave secret_env out.",
        ),
        (
            {"type": "webhook", "url": "http://h/", "secret_env": "SHORT"},
            'connector "crm": setting "secret_env": a secret must be whsec_ followed by base64 (in the environment '
            'variable "SHORT"). Make one with: echo "whsec_$(openssl rand -base64 32)"',
        ),
        (
            {"type": "voice", "base_url": "http://h", "token_env": "VOICE_TOKEN"},
            'connector "crm": setting "token_env" names the environment variable "VOICE_TOKEN", which is not set. '
            "Set VOICE_TOKEN, or leave token_env out.",
        ),
        (
            {"type": "log", "level": "loud"},
            "connector \"crm\": setting \"level\": input should be 'debug', 'info' or 'warning'. "
            "It is: Level of the log lines.",
        ),
    ],
)
def test_wrong_settings_are_named_with_their_remedy(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConnectorMisconfigured) as error:
        build("crm", settings, environ={"SHORT": "abc"})
    assert str(error.value) == message
    assert error.value.connector == "crm"


def test_settings_are_judged_without_secrets() -> None:
    settings = {"type": "voice", "base_url": "http://h", "token_env": "VOICE_TOKEN"}
    assert settings_problems("voice", settings) == ()
    assert [problem.subject for problem in settings_problems("voice", settings | {"agent": 1})] == ["agent"]


def test_references_to_the_environment_are_replaced_however_deep() -> None:
    settings = {
        "url": "https://${HOST}/${PATH_OF:-hooks}",
        "headers": {"X-Key": "${KEY}"},
        "redact": ["${EMPTY:-phone}", "$${KEY}", "$5"],
        "timeout_s": 5,
    }
    assert expand_environment(settings, {"HOST": "h", "KEY": "${HOST}", "EMPTY": ""}) == {
        "url": "https://h/hooks",
        "headers": {"X-Key": "${HOST}"},
        "redact": ["phone", "${KEY}", "$5"],
        "timeout_s": 5,
    }


def test_references_that_cannot_be_replaced_are_all_named() -> None:
    with pytest.raises(ConnectorMisconfigured) as error:
        expand_environment({"url": "${CRM_URL}", "headers": {"X-Key": "${no"}}, {}, connector="crm")
    assert str(error.value) == (
        'connector "crm": setting "url" needs the environment variable "CRM_URL", which is not set. '
        "Set CRM_URL, or write ${CRM_URL:-default}.\n"
        'connector "crm": setting "headers.X-Key" has a "${" that is not ${NAME} or ${NAME:-default}. '
        "Write $${ for a literal ${."
    )


@pytest.mark.parametrize(
    ("type_name", "names", "problems"),
    [
        ("voice", {"phone", "agent"}, []),
        ("voice", {"phone", "script", "context"}, []),
        ("voice", {"phone"}, ['param "agent" or "script" is missing. Give one of them.']),
        (
            "voice",
            {"agent"},
            ['param "phone" is missing. It is: Number to call, in E.164 form such as +919812345678.'],
        ),
        (
            "voice",
            {"phone", "agent", "contxt"},
            ['param "contxt" is unknown. Allowed: agent, context, metadata, phone, script. Did you mean "context"?'],
        ),
        ("webhook", {"anything"}, []),
        ("log", set(), []),
    ],
)
def test_a_templates_params_are_judged_by_name(type_name: str, names: set[str], problems: list[str]) -> None:
    chosen = next(known for known in connector_types() if known.type == type_name)
    assert [str(problem) for problem in chosen.param_name_problems(names)] == problems


PLUGIN = """
from connectors.connector_type import AnyParams, ConnectorType, Parameters
from connectors.log import LogConnector, LogParameters

FAX = ConnectorType(type="{type}", description="Fax.", kinds=("call",), parameters=LogParameters,
                    action_params=AnyParams, create=lambda name, parameters, _: LogConnector(name, parameters))
NOT_A_TYPE = 7
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *, entry: str, type_name: str = "fax") -> None:
    """Put a package with one entry point on the path, as an installer would."""
    (folder / "fax_plugin.py").write_text(PLUGIN.format(type=type_name))
    info = folder / "fax_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fax-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[journey.connectors]\nfax = {entry}\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "fax_plugin", raising=False)


def test_an_installed_package_adds_its_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, entry="fax_plugin:FAX")
    assert "fax" in [known.type for known in connector_types()]
    assert build("desk", {"type": "fax"}).name == "desk"


@pytest.mark.parametrize(
    ("entry", "type_name", "message"),
    [
        (
            "fax_plugin:FAX",
            "voice",
            'connector "fax": entry point "fax_plugin:FAX": the type name "voice" is taken. '
            "Give the type another name.",
        ),
        (
            "fax_plugin:NOT_A_TYPE",
            "fax",
            'connector "fax": entry point "fax_plugin:NOT_A_TYPE" is a int, not a ConnectorType. '
            "Point it at a ConnectorType.",
        ),
        (
            "no_such_module:FAX",
            "fax",
            'connector "fax": entry point "no_such_module:FAX" cannot be loaded: '
            "No module named 'no_such_module'. Mend or uninstall its package.",
        ),
    ],
)
def test_a_faulty_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, type_name: str, message: str
) -> None:
    install(tmp_path, monkeypatch, entry=entry, type_name=type_name)
    with pytest.raises(ConnectorMisconfigured) as error:
        connector_types()
    assert str(error.value) == message


def test_the_readme_lists_every_parameter() -> None:
    readme = (Path(__file__).parents[3] / "connectors" / "README.md").read_text()
    names = [name for known in BUILT_IN for name in known.parameters.model_fields]
    assert names
    assert [name for name in names if f"`{name}`" not in readme] == []
