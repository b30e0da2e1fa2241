"""Two workspaces over one Kafka and one Redis, everything over TLS and with passwords: neither sees the other, and no
secret is ever said.

The servers have certificates of an authority of the test; Kafka asks for a password and Redis for a password and a
client certificate.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import yaml
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from load_tests.processes import RULES, RoleProcess, arrivals_of, journey, until
from load_tests.servers import LocalKafka, LocalRedis, ServerProcess, free_port
from load_tests.traffic import zone_with_hour
from orchestrator.adapters.clock import SystemClock
from orchestrator.roles.distributed import redis_client
from orchestrator.settings import Settings

pytestmark = pytest.mark.integration

NAMES = ("acme", "globex")
PHONES = {"acme": "+919812345001", "globex": "+919812345002"}
WITHIN_S = 60
now_ms = SystemClock().now_ms

#: Every secret there is, each with a word that is looked for in all that is said.
KAFKA_PASSWORD = "sentinel-kafka-7Qm2"
REDIS_PASSWORD = "sentinel-redis-9Xw4"
WRITE_KEY = "sentinel-write-key-3Lp8"
VOICE_TOKEN = "sentinel-voice-token-5Rt1"
HOOK_SECRET = "whsec_c2VudGluZWwtaG9vay1zZWNyZXQtMTIzNDU2Nzg5MA=="


@dataclass(frozen=True)
class Certificates:
    """An authority, and one certificate for all servers and clients of this machine."""

    folder: Path
    authority: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        issued = self.authority.issue_cert("127.0.0.1", "localhost", common_name="journey")
        self.authority.cert_pem.write_to_path(self.ca)
        for part in issued.cert_chain_pems:
            part.write_to_path(self.certificate, append=True)
        # Kafka reads keys in this form only.
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        self.store.write_bytes(self.key.read_bytes() + self.certificate.read_bytes())

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def certificate(self) -> Path:
        return self.folder / "server.pem"

    @property
    def key(self) -> Path:
        return self.folder / "server.key"

    @property
    def store(self) -> Path:
        return self.folder / "server-store.pem"


class TlsRedis(LocalRedis):
    """Redis that speaks TLS on a second port, to clients with a certificate and the password."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder)
        self.tls_port = free_port()
        self._certificates = certificates

    def command(self) -> list[str]:
        return [
            *super().command(),
            *("--tls-port", str(self.tls_port), "--tls-auth-clients", "yes", "--requirepass", REDIS_PASSWORD),
            *("--tls-cert-file", str(self._certificates.certificate), "--tls-key-file", str(self._certificates.key)),
            *("--tls-ca-cert-file", str(self._certificates.ca)),
        ]

    def ready(self) -> bool:
        try:
            return self._ask(b"PING\r\n", 16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def tls_kafka(folder: Path, certificates: Certificates) -> tuple[LocalKafka, int]:
    """Return a broker with a second listener, over TLS and with a password, and its port."""
    kafka, port = LocalKafka(folder), free_port()
    jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    plain = kafka._properties()
    kafka._settings |= {
        "listeners": f"{plain['listeners']},GUARDED://127.0.0.1:{port}",
        "advertised.listeners": f"{plain['advertised.listeners']},GUARDED://127.0.0.1:{port}",
        "listener.security.protocol.map": f"{plain['listener.security.protocol.map']},GUARDED:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.guarded.plain.sasl.jaas.config": f'{jaas} user_journey="{KAFKA_PASSWORD}";',
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates.store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.ca),
    }
    return kafka, port


@dataclass(frozen=True)
class Tenant:
    """One workspace: its roles, its receiver and its keys."""

    name: str
    settings: Mapping[str, str]
    gateway: RoleProcess
    worker: RoleProcess
    key: str

    def ask(self, method: str, path: str, **options: Any) -> Any:
        headers = {"authorization": f"Bearer {self.key}"}
        answer = httpx.request(method, self.gateway.url + path, headers=headers, timeout=30, **options)
        assert answer.is_success, answer.text
        return answer.json()

    def command(self, *arguments: str) -> Any:
        environment = {**self.settings, "JOURNEY_URL": self.gateway.url, "JOURNEY_KEY": self.key}
        return journey(*arguments, environment=environment)


@dataclass(frozen=True)
class House:
    """Everything under one roof."""

    folder: Path
    certificates: Certificates
    kafka: LocalKafka
    redis: TlsRedis
    tenants: dict[str, Tenant]
    dispatcher: RoleProcess
    receiver: RoleProcess
    record: Path
    settings: Mapping[str, str]

    @property
    def roles(self) -> list[RoleProcess]:
        return [
            self.receiver,
            self.dispatcher,
            *(role for one in self.tenants.values() for role in (one.gateway, one.worker)),
        ]

    def arrivals(self) -> list[dict[str, Any]]:
        """Return what acme's receiver got: the only one that is served by a dispatcher."""
        return arrivals_of(self.record)

    def said(self) -> dict[str, str]:
        """Return the output of every process of ours."""
        return {str(path.relative_to(self.folder)): path.read_text() for path in self.folder.glob("*-*/*.log")}


def made_keys(folder: Path) -> dict[str, str]:
    """Make a key for each workspace with the command that operators use."""
    keys = {}
    for name in NAMES:
        roles = [word for role in ("write", "publisher", "operator") for word in ("--role", role)]
        made = journey(
            "keys", "create", *roles, "--name", name, "--workspace", name, "--file", str(folder / "keys.yaml")
        )
        assert made.returncode == 0, made.stderr
        keys[name] = made.stdout.strip()
    return keys


def rules_with_secrets(folder: Path, *, concurrency: int = 20) -> Path:
    """Copy the shipped rules with connectors that have secrets and nothing that holds them up."""
    shutil.copytree(RULES, folder)
    target = "${RECEIVER_URL:-http://127.0.0.1:8090}"
    delivery = {"concurrency": concurrency}
    voice = {"base_url": target, "token_env": "VOICE_TOKEN"}
    connectors: dict[str, Any] = {"voice": {"type": "voice", "kind": "call", "settings": voice, "delivery": delivery}}
    for kind in ("sms", "email", "push"):
        hook = {"url": f"{target}/hooks/{kind}", "secret_env": "HOOK_SECRET"}
        connectors[kind] = {"type": "webhook", "kind": kind, "settings": hook, "delivery": delivery}
    shipped = yaml.safe_load((RULES / "connectors.yaml").read_text())["connectors"]
    others = {name: entry for name, entry in shipped.items() if name not in connectors}
    (folder / "connectors.yaml").write_text(json.dumps({"connectors": others | connectors}))
    return folder


def role(noun: str, *options: str, folder: Path, settings: Mapping[str, str]) -> RoleProcess:
    return RoleProcess(noun, *options, folder=folder / f"{settings['JOURNEY_WORKSPACE']}-{noun}", environment=settings)


def tenant(name: str, folder: Path, shared: Mapping[str, str], key: str) -> Tenant:
    settings = {**shared, "JOURNEY_WORKSPACE": name}
    gateway = role("gateway", "--port", str(free_port()), folder=folder, settings=settings)
    return Tenant(name, settings, gateway, role("worker", folder=folder, settings=settings), key)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    certificates = Certificates(folder)
    redis = TlsRedis(folder / "redis", certificates)
    kafka, kafka_port = tls_kafka(folder / "kafka", certificates)
    keys, receiver_port, record = made_keys(folder), free_port(), folder / "received.jsonl"
    shared = {
        "JOURNEY_RULES": str(rules_with_secrets(folder / "rules")),
        "JOURNEY_DATA": str(folder / "unused"),
        "JOURNEY_KAFKA_BOOTSTRAP": f"127.0.0.1:{kafka_port}",
        "JOURNEY_KAFKA_SECURITY": "SASL_SSL",
        "JOURNEY_KAFKA_CA_FILE": str(certificates.ca),
        "JOURNEY_KAFKA_SASL_MECHANISM": "PLAIN",
        "JOURNEY_KAFKA_USER": "journey",
        "JOURNEY_KAFKA_PASSWORD": KAFKA_PASSWORD,
        "JOURNEY_REDIS_URL": f"rediss://:{REDIS_PASSWORD}@127.0.0.1:{redis.tls_port}/0",
        "JOURNEY_REDIS_CA_FILE": str(certificates.ca),
        "JOURNEY_REDIS_CERTIFICATE": str(certificates.certificate),
        "JOURNEY_REDIS_KEY": str(certificates.key),
        "JOURNEY_WRITE_KEYS": json.dumps([WRITE_KEY]),
        "JOURNEY_KEYS_FILE": str(folder / "keys.yaml"),
        "JOURNEY_PARTITIONS": "2",
        "JOURNEY_SESSION_TIMEOUT_S": "6",
        "JOURNEY_METRICS_PORT": "0",
        "RECEIVER_URL": f"http://127.0.0.1:{receiver_port}",
        "VOICE_TOKEN": VOICE_TOKEN,
        "HOOK_SECRET": HOOK_SECRET,
    }
    tenants = {name: tenant(name, folder, shared, keys[name]) for name in NAMES}
    acme = tenants["acme"].settings
    dispatcher = role("dispatcher", folder=folder, settings=acme)
    receiving = ("--port", str(receiver_port), "--record", str(record))
    receiver = role("receiver", *receiving, folder=folder, settings=acme)
    house = House(folder, certificates, kafka, redis, tenants, dispatcher, receiver, record, shared)
    try:
        redis.start()
        kafka.start()
        created = journey("topics", "create", environment=shared)
        assert created.returncode == 0, created.stderr
        for each in house.roles:
            each.launch()
        for each in house.roles:
            each.await_ready()
        yield house
    finally:
        with ThreadPoolExecutor() as ends:
            list(ends.map(ServerProcess.stop, house.roles))
        kafka.kill()
        redis.stop()


def lead(name: str, customer: str) -> dict[str, Any]:
    moment_ms = now_ms()
    return {
        "id": f"{customer}-asks-{name}",
        "type": "lead_submitted",
        "customer_id": customer,
        "occurred_at": moment_ms,
        "properties": {
            "lead_id": f"{name}-lead",
            "phone": PHONES[name],
            "timezone": zone_with_hour(12, moment_ms),
        },
        "context": {"consent": {"categoryPreferences": {"callback": True}}},
    }


@pytest.fixture(scope="module")
def called(house: House) -> list[dict[str, Any]]:
    """The same customer asks for a call in both workspaces; acme, which has a dispatcher, calls its own."""
    globex, acme = house.tenants["globex"], house.tenants["acme"]
    globex.ask("POST", "/v1/events", json=lead("globex", "c1"))
    until(lambda: globex.ask("GET", "/v1/actions"), within_s=WITHIN_S, because="globex has decided a call")
    acme.ask("POST", "/v1/events", json=lead("acme", "c1"))
    return until(house.arrivals, within_s=WITHIN_S, because="acme calls its customer")


# ------------------------------------------------------------------------------------------------------ isolation


def test_a_dispatcher_sends_what_its_own_workspace_has_decided_and_nothing_else(
    house: House, called: list[dict[str, Any]]
) -> None:
    assert PHONES["acme"] in json.dumps(called)
    assert PHONES["globex"] not in json.dumps(house.arrivals())
    (waiting,) = house.tenants["globex"].ask("GET", "/v1/actions?customer_id=c1")
    assert waiting["id"] not in json.dumps(house.arrivals())


@pytest.mark.parametrize("path", ["/v1/actions", "/v1/customers/c1/timeline", "/v1/customers/c1/export"])
def test_a_look_up_shows_one_workspace_and_nothing_of_the_other(
    house: House, called: list[dict[str, Any]], path: str
) -> None:
    for name, one in house.tenants.items():
        wanted = f"{name}-lead" if path == "/v1/actions" else f"c1-asks-{name}"
        shown = until(
            lambda one=one, wanted=wanted: wanted in (text := json.dumps(one.ask("GET", path))) and text,
            within_s=WITHIN_S,
            because=f"{path} of {name} shows {wanted}",
        )
        for other in set(NAMES) - {name}:
            assert PHONES[other] not in shown
            assert f"{other}-lead" not in shown
            assert f"asks-{other}" not in shown


def test_dead_letters_are_shown_and_sent_again_in_their_own_workspace_only(house: House) -> None:
    acme, globex = (house.tenants[name] for name in NAMES)
    call = {"type": "track", "event": "acme only!", "userId": "c9", "messageId": "m-acme"}
    acme.ask("POST", "/v1/batch", json={"batch": [call]})
    letters = until(lambda: acme.ask("GET", "/v1/dead-letters"), within_s=WITHIN_S, because="acme has a dead letter")
    assert "m-acme" in letters[0]["value"]
    assert globex.ask("GET", "/v1/dead-letters") == []
    assert globex.ask("POST", "/v1/dead-letters/redrive", json={"ids": [letters[0]["id"]]}) == {"redriven": 0}


def test_a_version_published_in_one_workspace_is_unknown_in_the_other(house: House) -> None:
    acme, globex = (house.tenants[name] for name in NAMES)
    before = globex.ask("GET", "/v1/rulebooks")
    rules = house.folder / "acme-rules"
    rules_with_secrets(rules, concurrency=19)
    published = acme.command("publish", str(rules), "--no-activate")
    assert published.returncode == 0, published.stderr
    version = published.stdout.split()[1]
    assert version in {one["version"] for one in acme.ask("GET", "/v1/rulebooks")}
    assert globex.ask("GET", "/v1/rulebooks") == before
    headers = {"authorization": f"Bearer {globex.key}"}
    assert httpx.get(f"{globex.gateway.url}/v1/rulebooks/{version}", headers=headers).status_code == 404
    (mine,) = [one for one in acme.ask("GET", "/v1/rulebooks") if one["version"] == version]
    assert mine["author"].endswith("key acme") or mine["author"].endswith("(key acme)")


def test_a_key_of_one_workspace_does_not_open_the_other(house: House) -> None:
    acme, globex = (house.tenants[name] for name in NAMES)
    headers = {"authorization": f"Bearer {acme.key}"}
    answer = httpx.get(f"{globex.gateway.url}/v1/customers/c1", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:journey:problem:other_workspace")


def test_every_key_in_redis_is_under_the_tag_of_a_workspace(
    house: House, called: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in house.settings.items():
        if name.startswith("JOURNEY_"):
            monkeypatch.setenv(name, value)

    async def keys() -> list[bytes]:
        client = redis_client(Settings())
        try:
            return [key async for key in client.scan_iter(count=1_000)]
        finally:
            await client.aclose()

    found = asyncio.run(keys())
    tags = {name: [key for key in found if f"journey:{name}:".encode() in key] for name in NAMES}
    assert all(tags.values())
    assert sorted(key for keys in tags.values() for key in keys) == sorted(found)
    foreign = {"acme": b"globex", "globex": b"acme"}
    assert [key for name, keys in tags.items() for key in keys if foreign[name] in key] == []


def test_workers_leave_alone_what_belongs_to_the_other(house: House, called: list[dict[str, Any]]) -> None:
    for one in house.tenants.values():
        lines = httpx.get(f"{one.worker.url}/metrics").text.splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        assert float(values["journey_records_foreign_total"]) > 0
        assert not any(name.startswith("journey_events_refused_total") for name in values)


def test_forgetting_a_customer_in_one_workspace_leaves_the_other_alone(house: House) -> None:
    acme, globex = (house.tenants[name] for name in NAMES)
    named = {"id": "named", "type": "identify", "customer_id": "c3", "occurred_at": now_ms()}

    def known(one: Tenant) -> bool:
        headers = {"authorization": f"Bearer {one.key}"}
        return httpx.get(f"{one.gateway.url}/v1/customers/c3", headers=headers).status_code == 200

    for one in (acme, globex):
        one.ask("POST", "/v1/events", json={**named, "properties": {"first_name": one.name}})
        until(lambda one=one: known(one), within_s=WITHIN_S, because=f"{one.name} knows c3")
    globex.ask("DELETE", "/v1/customers/c3")
    until(lambda: not known(globex), within_s=WITHIN_S, because="globex has forgotten c3")
    kept = acme.ask("GET", "/v1/customers/c3")
    assert kept["traits"]["first_name"] == "acme"


# -------------------------------------------------------------------------------------------------------- secrets


def test_no_secret_is_ever_said(house: House, called: list[dict[str, Any]]) -> None:
    """Every role is brought into trouble, and all that has been said by then is looked through."""
    acme = house.tenants["acme"]
    answers = [
        httpx.get(f"{acme.gateway.url}/v1/actions", auth=(key, "")).text for key in (WRITE_KEY, f"{WRITE_KEY}x", "")
    ]
    house.receiver.kill()
    acme.ask("POST", "/v1/events", json=lead("acme", "c2"))
    wrong = {
        "JOURNEY_REDIS_URL": f"rediss://:{REDIS_PASSWORD}x@127.0.0.1:{house.redis.tls_port}/0",
        "JOURNEY_KAFKA_PASSWORD": f"{KAFKA_PASSWORD}x",
    }
    untrusted = {"JOURNEY_REDIS_CA_FILE": "/etc/ssl/certs/ca-certificates.crt"}
    unreadable = {"JOURNEY_REDIS_URL": f"rediss://:{REDIS_PASSWORD}@127.0.0.1:port/0"}
    settings = {**acme.settings, "JOURNEY_DATA": str(house.folder)}

    def doctor(change: Mapping[str, str]) -> Any:
        return journey("doctor", "--distributed", environment={**settings, **change}, timeout_s=300)

    with ThreadPoolExecutor() as side_by_side:
        outputs = list(side_by_side.map(doctor, (wrong, untrusted, unreadable)))
    house.receiver.start()
    house.redis.kill()
    metrics = [httpx.get(f"{each.url}/metrics").text for each in house.roles if each is not house.receiver]
    headers = {"authorization": f"Bearer {acme.key}"}
    down = httpx.get(f"{acme.gateway.url}/v1/customers/c1", headers=headers, timeout=60)
    assert (down.status_code, down.json()["type"]) == (503, "urn:journey:problem:unavailable")
    house.redis.start()
    until(
        lambda: httpx.get(f"{acme.gateway.url}/v1/customers/c1", headers=headers, timeout=60).status_code != 503,
        within_s=WITHIN_S,
        because="the gateway has its Redis again",
    )
    said = [
        *answers,
        down.text,
        *metrics,
        *house.said().values(),
        *(part for output in outputs for part in (output.stdout, output.stderr)),
        (house.folder / "keys.yaml").read_text(),
    ]
    assert all(said[: len(answers)])
    assert len(house.said()) == len(house.roles)
    secrets = [
        KAFKA_PASSWORD,
        REDIS_PASSWORD,
        WRITE_KEY,
        VOICE_TOKEN,
        HOOK_SECRET,
        acme.key,
        house.certificates.key.read_text(),
    ]
    assert [(secret, text) for secret in secrets for text in said if secret in text] == []
    assert "invalid username-password pair" in outputs[0].stdout
    assert "Its certificate is not accepted" in outputs[1].stdout
    assert "user, password or port cannot be read" in outputs[2].stdout
