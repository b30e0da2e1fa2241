"""The image, the compose file and the Kubernetes manifests name only what exists, and are what their schemas allow."""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from load_tests.deployment import Deployment
from orchestrator.gateway.access import refuse_exposure
from orchestrator.gateway.keys import KeyFile
from orchestrator.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
IMAGE = f"journey-orchestrator:{PROJECT['version']}"

# The commands of the image that run until they are stopped, and those that do their work and end.
ROLES = {"gateway", "worker", "dispatcher", "receiver", "console"}
ONE_SHOT = {"topics create"}


def check_settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Load the settings as a process with this environment would; fail on a variable that is none of them."""
    own = {name: value for name, value in environment.items() if name.startswith("JOURNEY_")}
    known = {f"JOURNEY_{field.upper()}" for field in Settings.model_fields}
    assert set(own) <= known
    for name in known:
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    return Settings()


# ---------------------------------------------------------------------------------------------------- image


def test_the_image_is_built_in_two_stages_from_a_pinned_base_and_runs_as_nobody_special() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert bases == ["python:3.11.13-slim-bookworm"] * 2
    assert re.findall(r"^USER (.+)$", DOCKERFILE, flags=re.MULTILINE) == ["10001:10001"]
    assert 'ENTRYPOINT ["journey"]' in DOCKERFILE
    assert "HEALTHCHECK" in DOCKERFILE


def test_the_image_copies_only_what_exists_and_what_the_build_context_admits() -> None:
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.MULTILINE):
        copied |= set(line.split()[:-1])
    assert copied == admitted
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_sets_only_settings_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = check_settings(dict(re.findall(r"\b(JOURNEY_\w+)=(\S+)", DOCKERFILE)), monkeypatch)
    assert (settings.host, settings.rules, settings.log_format) == ("0.0.0.0", Path("/app/rules"), "json")


def test_load_and_fault_runs_use_memory_as_the_image_does(tmp_path: Path) -> None:
    arenas = Deployment(tmp_path, tmp_path).settings["MALLOC_ARENA_MAX"]
    assert re.findall(r"MALLOC_ARENA_MAX=(\S+)", DOCKERFILE) == [arenas]


def test_every_dependency_is_pinned_to_a_version_that_the_project_allows() -> None:
    lines = (DEPLOY / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    for dependency in map(Requirement, PROJECT["dependencies"]):
        name = canonicalize_name(dependency.name)
        assert name in pins, f"deploy/constraints.txt does not pin {name}"
        assert dependency.specifier.contains(pins[name]), f"{name}=={pins[name]} is not {dependency.specifier}"


@pytest.fixture
def answering_port() -> Iterator[int]:
    """A server that answers 200 at /good and 503 elsewhere."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/good" else 503)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test's output for the test."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("http://127.0.0.1:{port}/good", 0, ""),
        ("tcp://127.0.0.1:{port}", 0, ""),
        ("http://127.0.0.1:{port}/bad", 1, "http://127.0.0.1:{port}/bad: HTTP Error 503: Service Unavailable\n"),
        ("tcp://127.0.0.1:1", 1, "tcp://127.0.0.1:1: [Errno 111] Connection refused\n"),
        ("file:///", 1, "file:///: HEALTH_URL is 'file:///'; it starts with http:// or tcp://\n"),
    ],
)
def test_the_health_check_answers_by_its_exit_code(answering_port: int, url: str, code: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, DEPLOY / "healthcheck.py"],
        env={"HEALTH_URL": url.format(port=answering_port)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, said.format(port=answering_port))


# -------------------------------------------------------------------------------------------------- compose

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
# The one service that needs no health check: it ends, and the others wait for its exit code.
WITHOUT_CHECK = {"topics"}


def interpolated(value: str) -> str:
    """Put the defaults in the place of ``${NAME:-default}``, as compose does with an empty environment."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def test_compose_starts_every_part() -> None:
    parts = {"kafka", "redis", "topics", "gateway", "worker", "dispatcher", "receiver", "prometheus", "grafana"}
    assert set(SERVICES) == parts
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_pinned_image_a_restart_policy_and_a_health_check(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+(-alpine)?", service["image"])
    assert service["restart"] == ("no" if name in WITHOUT_CHECK else "unless-stopped")
    assert ("test" in service["healthcheck"]) == (name not in WITHOUT_CHECK)
    assert "container_name" not in service, "a fixed name allows one replica only"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_publishes_ports_on_the_loopback_address_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_services_by_a_condition_that_they_can_meet(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        ends = other in WITHOUT_CHECK
        assert other in SERVICES
        assert wait["condition"] == ("service_completed_successfully" if ends else "service_healthy")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_mounts_files_that_exist_and_volumes_that_are_declared(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert mode == ["ro"], f"{source} is a source file and must not be written by a container"
        else:
            assert source in COMPOSE["volumes"]


def test_every_declared_volume_is_mounted() -> None:
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert set(COMPOSE["volumes"]) <= mounted


@pytest.mark.parametrize("name", OURS)
def test_a_role_gets_settings_that_exist_and_hold(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {key: interpolated(value) for key, value in OURS[name]["environment"].items()}
    settings = check_settings(environment, monkeypatch)
    assert settings.host == "0.0.0.0", "a server on the loopback address of a container cannot be reached"
    if name in {"gateway", "receiver"}:
        assert name in settings.host_names, "services call each other by their names"
    if name == "gateway":
        refuse_exposure(settings)
    if name != "receiver":
        assert settings.kafka_bootstrap in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
        assert settings.redis_url.get_secret_value() == "redis://redis:6379/0"
        assert environment["RECEIVER_URL"] == "http://receiver:8090"


@pytest.mark.parametrize("name", OURS)
def test_a_role_runs_a_command_of_the_image_without_rights_it_does_not_need(name: str) -> None:
    service = OURS[name]
    assert service["image"] == IMAGE
    assert " ".join(service["command"]) in ROLES | ONE_SHOT
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert "/var/lib/journey:uid=10001,gid=10001,mode=0750" in service["tmpfs"]


def test_redis_keeps_what_it_is_told_and_evicts_nothing() -> None:
    command = [interpolated(word) for word in SERVICES["redis"]["command"]]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options == {
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--maxmemory": "2gb",
        "--maxmemory-policy": "noeviction",
        "--save": "",
    }


def test_prometheus_scrapes_the_services_of_the_compose_file() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    for job in config["scrape_configs"]:
        if role := re.fullmatch(r"journey-(\w+)", job["job_name"]):
            static = [target.split(":")[0] for each in job.get("static_configs", []) for target in each["targets"]]
            named = [name for each in job.get("dns_sd_configs", []) for name in each["names"]]
            assert static + named == [role[1]]
            assert role[1] in OURS


# ----------------------------------------------------------------------------------------------- kubernetes

KUBERNETES = DEPLOY / "kubernetes"
KUSTOMIZATION = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
TEMPLATES = {"secret.example.yaml"}
MANIFESTS: list[dict[str, Any]] = [
    manifest
    for name in (*KUSTOMIZATION["resources"], *sorted(TEMPLATES))
    for manifest in yaml.safe_load_all((KUBERNETES / name).read_text())
]
CUSTOM = yaml.safe_load((KUBERNETES / "monitoring/service-monitor.yaml").read_text())
WORKLOADS = [manifest for manifest in MANIFESTS if manifest["kind"] in {"Deployment", "Job"}]


def called(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {manifest["metadata"]["name"]: manifest for manifest in MANIFESTS if manifest["kind"] == kind}


def pod_labels() -> list[dict[str, str]]:
    return [workload["spec"]["template"]["metadata"]["labels"] for workload in WORKLOADS]


def test_the_kustomization_takes_every_manifest_but_templates() -> None:
    assert KUSTOMIZATION["apiVersion"] == "kustomize.config.k8s.io/v1beta1"
    on_disk = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(KUSTOMIZATION["resources"]) == on_disk - TEMPLATES
    assert KUSTOMIZATION["images"] == [{"name": "journey-orchestrator", "newTag": PROJECT["version"]}]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=called)
def test_a_manifest_is_what_kubernetes_allows(manifest: dict[str, Any]) -> None:
    assert kubernetes_validate.validate(manifest, "1.32", strict=True) == "1.32"


def test_the_schema_check_refuses_a_key_that_kubernetes_does_not_know() -> None:
    wrong = {**of_kind("Service")["journey-gateway"], "spce": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="'spce' was unexpected"):
        kubernetes_validate.validate(wrong, "1.32", strict=True)


@pytest.mark.parametrize("workload", WORKLOADS, ids=called)
def test_a_workload_runs_the_pinned_image_as_nobody_special(workload: dict[str, Any]) -> None:
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert " ".join(container["args"]) in ROLES | ONE_SHOT
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container["resources"]) == {"requests", "limits"}
    assert pod["serviceAccountName"] in of_kind("ServiceAccount")


@pytest.mark.parametrize("workload", WORKLOADS, ids=called)
def test_kubernetes_adds_no_variable_that_settings_refuse(workload: dict[str, Any]) -> None:
    """A Service journey-gateway makes JOURNEY_GATEWAY_PORT appear in every pod that has service links."""
    assert workload["spec"]["template"]["spec"]["enableServiceLinks"] is False


@pytest.mark.parametrize("workload", WORKLOADS, ids=called)
def test_a_workload_gets_settings_that_exist_and_hold(
    workload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    environment: dict[str, str] = {}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            environment |= of_kind("ConfigMap")[source["configMapRef"]["name"]]["data"]
        else:
            environment |= of_kind("Secret")[source["secretRef"]["name"]]["stringData"]
    settings = check_settings(environment, monkeypatch)
    assert not settings.allow_anonymous
    if workload["metadata"]["name"] == "journey-gateway":
        (variable,) = container["env"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert variable == {"name": "JOURNEY_KEYS_FILE", "value": f"{mounts['keys']}/keys.yaml"}
        KeyFile.model_validate(yaml.safe_load(of_kind("Secret")["journey-keys"]["stringData"]["keys.yaml"]))
    assert settings.kafka_replication == 3
    replicas = workload["spec"].get("replicas", 1)
    assert settings.partitions >= replicas, "more workers than partitions would stand by"


@pytest.mark.parametrize("workload", of_kind("Deployment").values(), ids=called)
def test_a_deployment_selects_its_own_pods_and_probes_a_port_that_it_opens(workload: dict[str, Any]) -> None:
    template = workload["spec"]["template"]
    assert workload["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (container,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    role = container["args"][0]
    assert ports == ({"http": 8080} if role == "gateway" else {"metrics": 9100})
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} == set(ports)
    assert template["spec"]["terminationGracePeriodSeconds"] >= 30


def test_services_budgets_and_policies_select_pods_that_exist() -> None:
    services = {name: service["spec"]["selector"] for name, service in of_kind("Service").items()}
    budgets = {
        name: budget["spec"]["selector"]["matchLabels"] for name, budget in of_kind("PodDisruptionBudget").items()
    }
    assert set(services) == set(budgets) == set(of_kind("Deployment"))
    for selector in (*services.values(), *budgets.values()):
        assert sum(selector.items() <= labels.items() for labels in pod_labels()) == 1, selector
    names = {labels["app.kubernetes.io/name"] for labels in pod_labels()}
    for policy in of_kind("NetworkPolicy").values():
        selector = policy["spec"]["podSelector"]
        named = set(selector.get("matchLabels", {}).values())
        named |= {value for each in selector.get("matchExpressions", []) for value in each["values"]}
        assert named <= names, policy["metadata"]["name"]


def test_services_lead_to_ports_that_their_pods_open() -> None:
    for name, service in of_kind("Service").items():
        (container,) = of_kind("Deployment")[name]["spec"]["template"]["spec"]["containers"]
        opened = {port["name"]: port["containerPort"] for port in container["ports"]}
        for port in service["spec"]["ports"]:
            assert opened[port["targetPort"]] == port["port"], name


def test_pods_of_a_replicated_role_spread_over_zones_and_nodes() -> None:
    for name in ("journey-gateway", "journey-worker"):
        template = of_kind("Deployment")[name]["spec"]["template"]
        spread = template["spec"]["topologySpreadConstraints"]
        assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        for each in spread:
            assert each["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_the_autoscaler_scales_the_gateway_and_nobody_else_sets_its_replicas() -> None:
    (scaler,) = of_kind("HorizontalPodAutoscaler").values()
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "journey-gateway")
    assert "replicas" not in of_kind("Deployment")["journey-gateway"]["spec"]


def test_limits_of_connectors_are_kept_by_one_dispatcher_at_a_time() -> None:
    spec = of_kind("Deployment")["journey-dispatcher"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_prometheus_finds_every_service_by_its_port_and_names_the_job_after_it() -> None:
    (expression,) = CUSTOM["spec"]["selector"]["matchExpressions"]
    assert expression["key"] == "app.kubernetes.io/name"
    assert set(expression["values"]) == set(of_kind("Service"))
    for service in of_kind("Service").values():
        assert service["metadata"]["labels"]["app.kubernetes.io/name"] == service["metadata"]["name"]
    named = {port["name"] for service in of_kind("Service").values() for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in CUSTOM["spec"]["endpoints"]} == named
