"""Scrape configuration, rules and dashboard are valid; every alert is tested both ways and has its runbook."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
GRAFANA = ROOT / "deploy/grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
README = (ROOT / "deploy/README.md").read_text()

ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((PROMETHEUS / "rules/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
# Alerts whose expression, or whose metric, looks back over a span, and so need no time to pass before they fire.
WITHOUT_FOR = {"JourneyRulebookRefused", "JourneyProducerRefused", "JourneyOwnRecordsRefused"}


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's own checker, installed from Debian's package where it is missing."""
    if shutil.which("promtool") is None:
        assert os.geteuid() == 0 and shutil.which("apt-get"), "promtool is missing: install the package prometheus"
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", "prometheus"]):
            subprocess.run(["apt-get", "-qq", *command], check=True, env=quiet, stdout=subprocess.DEVNULL)
    found = shutil.which("promtool")
    assert found, "the package prometheus did not bring promtool"
    return found


def run(*command: str | Path) -> str:
    """Run a command, fail with all that it says when it fails, and return what it says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_takes_the_configuration(promtool: str) -> None:
    said = run(promtool, "check", "config", PROMETHEUS / "prometheus.yml")
    assert "2 rule files found" in said


@pytest.mark.parametrize("path", sorted((PROMETHEUS / "rules").glob("*.yml")), ids=lambda path: path.name)
def test_prometheus_takes_the_rules(promtool: str, path: Path) -> None:
    run(promtool, "check", "rules", "--lint-fatal", path)


@pytest.mark.parametrize("path", sorted((PROMETHEUS / "tests").glob("*.yml")), ids=lambda path: path.name)
def test_alerts_fire_when_they_should_and_only_then(promtool: str, path: Path) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", path)


def test_every_alert_is_tested_both_firing_and_quiet() -> None:
    firing: set[str] = set()
    quiet: set[str] = set()
    for path in (PROMETHEUS / "tests").glob("*.yml"):
        for case in yaml.safe_load(path.read_text())["tests"]:
            for expected in case["alert_rule_test"]:
                (firing if expected["exp_alerts"] else quiet).add(expected["alertname"])
    assert firing == quiet == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert ("for" in alert) == (name not in WITHOUT_FOR)
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["summary"].endswith(".") and alert["annotations"]["description"].endswith(".")
    # GitHub's anchor of a heading of one word is the word in lower case.
    assert alert["annotations"]["runbook_url"] == f"deploy/README.md#{name.lower()}"


def runbooks() -> dict[str, str]:
    """The runbook sections of deploy/README.md by their headings."""
    text = README.split("\n## Runbooks\n")[1].split("\n## ")[0]
    _, *rest = re.split(r"^### (.+)$", text, flags=re.MULTILINE)
    return dict(zip(rest[::2], rest[1::2], strict=True))


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert set(runbooks()) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_says_what_it_means_what_to_look_at_and_what_to_do(name: str) -> None:
    assert re.findall(r"^\*\*(.+?)\*\* ", runbooks()[name], flags=re.MULTILINE) == ["Means", "Look at", "Do"]


def test_runbooks_name_panels_and_alerts_that_exist() -> None:
    titles = {panel["title"] for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]}
    for name, text in runbooks().items():
        panels = set(re.findall(r"(?<!\*)\*([A-Z][^*\n]+)\*(?!\*)", text))
        assert panels <= titles, f"{name} names panels that do not exist"
        assert set(re.findall(r"\bJourney[A-Z]\w+", text)) <= set(ALERTS), f"{name} names alerts that do not exist"


def test_alerts_name_only_jobs_that_are_scraped() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    scraped = {job["job_name"] for job in config["scrape_configs"]}
    named = {job for alert in ALERTS.values() for job in re.findall(r'job="([^"]+)"', alert["expr"])}
    assert named == {"journey-gateway", "journey-worker", "journey-dispatcher"}
    assert named <= scraped


def test_a_part_of_a_role_missing_is_noticed_for_every_scraped_role() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    roles = {job["job_name"] for job in config["scrape_configs"] if job["job_name"].startswith("journey-")}
    assert set(re.findall(r'absent\(up\{job="([^"]+)"\}', ALERTS["JourneyRoleMissing"]["expr"])) == roles


# ------------------------------------------------------------------------------------------------- dashboard


@pytest.fixture(params=DASHBOARDS, ids=lambda path: path.name)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(request.param.read_text())
    return loaded


def sources(value: object) -> set[str]:
    """The uids of every data source that is named anywhere inside."""
    if isinstance(value, dict):
        own = {value["datasource"]["uid"]} if "datasource" in value else set()
        return own.union(*(sources(part) for part in value.values()))
    if isinstance(value, list):
        return set().union(*(sources(part) for part in value))
    return set()


def test_a_dashboard_reads_from_the_provisioned_data_source(dashboard: dict[str, Any]) -> None:
    provisioned = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    # "-- Grafana --" is Grafana itself, the source of its own annotations.
    assert sources(dashboard) == {source["uid"] for source in provisioned["datasources"]} | {"-- Grafana --"}


def test_a_dashboard_has_panels_with_ids_of_their_own(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) > 20
    assert sorted(set(ids)) == sorted(ids)
    assert dashboard["schemaVersion"] >= 41
    assert re.fullmatch(r"[a-z-]{1,40}", dashboard["uid"])


def test_a_panel_says_what_it_shows_in_which_unit(dashboard: dict[str, Any]) -> None:
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]
        if panel["type"] == "timeseries":
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_panels_lie_side_by_side_and_never_over_one_another(dashboard: dict[str, Any]) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} lies over {taken[cell]}"
            taken[cell] = panel["title"]


def test_legends_name_labels_that_the_query_keeps(dashboard: dict[str, Any]) -> None:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                kept = re.findall(r"by \(([^)]*)\)", target["expr"])
                recorded = target["expr"].startswith("journey:")
                assert recorded or any(label in names.split(", ") for names in kept), panel["title"]


def test_prometheus_understands_every_query_of_a_dashboard(
    promtool: str, dashboard: dict[str, Any], tmp_path: Path
) -> None:
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    records = [
        {"record": f"panel:query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": records}]}))
    assert f"SUCCESS: {len(queries)} rules found" in run(promtool, "check", "rules", path)
