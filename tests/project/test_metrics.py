"""The catalogue of metrics, the code that emits them and everything that reads them agree with one another."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from connectors.protocol import Result
from orchestrator import metrics
from orchestrator.core.reason import Outcome, Reason

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
SOURCES = sorted(path for path in (ROOT / "orchestrator").rglob("*.py") if path.name != "metrics.py")

# Labels that Prometheus adds to everything it scrapes.
TARGET_LABELS = frozenset({"job", "instance"})
# An Info takes its labels when it is set, so the catalogue cannot state them.
INFO_LABELS = {"PROCESS": frozenset({"role", "version", "workspace"}), "RULEBOOK": frozenset({"version"})}
# Metrics that no panel and no alert shows, each with its reason.
NOT_SHOWN: dict[str, str] = {
    "KEY_REFUSALS": "Looked at when a caller complains: what is usual differs by who calls.",
    "EVENTS_CROWDED": "Whether it matters depends on who sends what again; the README says when to look.",
    "RECORDS_FOREIGN": "As many as the other workspaces have; tells whether a topic is shared.",
}

# The words of those labels whose words are few: queries may select no others, and literals in the code are of them.
WORDS: dict[tuple[str, str], frozenset[str]] = {
    ("DECISIONS", "outcome"): frozenset(outcome.value for outcome in Outcome),
    ("DECISIONS", "reason"): frozenset(reason.value for reason in Reason),
    ("DELIVERY_ATTEMPTS", "result"): frozenset(result.value for result in Result),
    ("PROMISES", "outcome"): frozenset({"kept", "broken", "unkeepable"}),
    ("DELIVERIES", "outcome"): frozenset({"delivered", "failed", "expired", "cancelled", "dropped"}),
    ("EVENTS_REFUSED", "origin"): frozenset({"gateway", "worker"}),
    ("DEAD_LETTERS", "origin"): frozenset({"gateway", "worker", "dispatcher"}),
    ("RULEBOOK_LOADS", "outcome"): frozenset({"switched", "refused"}),
}


# ------------------------------------------------------------------------------------------------ catalogue


@dataclass(frozen=True)
class Metric:
    """One entry of the catalogue: its constant, the names of its samples and the labels they carry."""

    constant: str
    kind: str
    labels: tuple[str, ...]
    samples: dict[str, frozenset[str]]


def catalogue() -> dict[str, Metric]:
    found = {}
    for constant, collector in vars(metrics).items():
        if isinstance(collector, MetricWrapperBase):
            (family,) = collector.describe()
            labels = tuple(collector._labelnames)
            shown = frozenset(labels) | INFO_LABELS.get(constant, frozenset())
            samples = {
                "counter": {f"{family.name}_total": shown},
                "gauge": {family.name: shown},
                "info": {f"{family.name}_info": shown},
                "histogram": {
                    f"{family.name}_bucket": shown | {"le"},
                    f"{family.name}_count": shown,
                    f"{family.name}_sum": shown,
                },
            }[family.type]
            found[constant] = Metric(constant, family.type, labels, samples)
    return found


CATALOGUE = catalogue()
SAMPLES = {name: metric for metric in CATALOGUE.values() for name in metric.samples}


def test_the_catalogue_is_found_and_every_info_states_its_labels() -> None:
    assert len(CATALOGUE) > 20
    assert {constant for constant, metric in CATALOGUE.items() if metric.kind == "info"} == set(INFO_LABELS)


# -------------------------------------------------------------------------------------------------- queries


@dataclass(frozen=True)
class Query:
    """One PromQL expression and where it stands."""

    where: str
    text: str


def rules() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from ((path, rule) for rule in group["rules"])


def without_variables(query: str) -> str:
    """Put spans and names in the place of Grafana's variables, which PromQL does not know."""
    return re.sub(r"\$__(rate_interval|interval|range)", "5m", query).replace("$", "")


def dashboard_queries() -> Iterator[Query]:
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield Query(f"{path.name}: {panel['title']} {target['refId']}", without_variables(target["expr"]))
        for annotation in dashboard["annotations"]["list"]:
            if "expr" in annotation:
                yield Query(f"{path.name}: annotation {annotation['name']}", without_variables(annotation["expr"]))
        for variable in dashboard["templating"]["list"]:
            labels = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert labels, f"{path.name}: variable {variable['name']} is not label_values(metric, label)"
            # The same question in PromQL, so that its metric and label are checked with all others.
            yield Query(
                f"{path.name}: variable {variable['name']}",
                f"group by ({labels[2]}) ({without_variables(labels[1])})",
            )


def rule_queries() -> Iterator[Query]:
    for path, rule in rules():
        yield Query(f"{path.name}: {rule.get('alert') or rule['record']}", rule["expr"])


QUERIES = [*rule_queries(), *dashboard_queries()]


def nodes(expression: promql.Expr) -> list[promql.Expr]:
    """Every part of an expression, itself included."""
    found: list[promql.Expr] = []
    promql.walk(expression, found.append)
    return found


def selectors(expression: promql.Expr) -> list[promql.VectorSelector]:
    return [part for part in nodes(expression) if isinstance(part, promql.VectorSelector)]


def groupings(expression: promql.Expr) -> Iterator[tuple[promql.Expr, list[str]]]:
    """Each part of an expression together with the labels that it is grouped or matched by."""
    for part in nodes(expression):
        if isinstance(part, promql.AggregateExpr) and part.modifier:
            yield part.expr, part.modifier.labels
        elif isinstance(part, promql.BinaryExpr) and part.modifier and part.modifier.matching:
            yield part, part.modifier.matching.labels


def recorded() -> dict[str, frozenset[str]]:
    """Recording rules and the labels that their series keep."""
    return {
        rule["record"]: frozenset(
            label for _, labels in groupings(promql.parse(rule["expr"])) for label in labels if label != "le"
        )
        for _, rule in rules()
        if "record" in rule
    }


RECORDED = recorded()


def labels_of(selector: promql.VectorSelector) -> frozenset[str] | None:
    """Return the labels that the selected series carry; None when no such series exists."""
    if selector.name == "up":
        return TARGET_LABELS
    if selector.name in SAMPLES:
        return SAMPLES[selector.name].samples[selector.name] | TARGET_LABELS
    return RECORDED.get(selector.name or "")


def words_of(matcher: promql.Matcher) -> list[str]:
    """The words that a matcher names; none for patterns that are more than a list of words."""
    words = matcher.value.split("|")
    return [word for word in words if re.fullmatch(r"[a-z_]+", word)] if matcher.value else []


def faults(query: str) -> list[str]:
    """Return what a query names that does not exist: metrics, labels, words of labels."""
    found = []
    expression = promql.parse(query)
    for selector in selectors(expression):
        known = labels_of(selector)
        if known is None:
            found.append(f"no metric {selector.name}")
            continue
        for matcher in selector.matchers.matchers:
            if matcher.name not in known:
                found.append(f"{selector.name} has no label {matcher.name}")
            metric = SAMPLES.get(selector.name or "")
            allowed = WORDS.get((metric.constant, matcher.name)) if metric else None
            if allowed is not None:
                found += [
                    f"{selector.name}: {word!r} is no {matcher.name}"
                    for word in words_of(matcher)
                    if word not in allowed
                ]
    for part, labels in groupings(expression):
        for selector in selectors(part):
            known = labels_of(selector)
            found += [f"{selector.name} has no label {label}" for label in labels if known and label not in known]
    return found


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.where)
def test_a_query_names_only_what_the_catalogue_has(query: Query) -> None:
    assert faults(query.text) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("journey_partitions_owned", []),
        ("rate(journey_nothing_total[5m])", ["no metric journey_nothing_total"]),
        ("journey_partitions_owned_total", ["no metric journey_partitions_owned_total"]),
        ('journey_queue_depth{conector="sms"}', ["journey_queue_depth has no label conector"]),
        ("sum by (partition) (journey_queue_depth)", ["journey_queue_depth has no label partition"]),
        ("sum by (le) (rate(journey_delivery_seconds_count[5m]))", ["journey_delivery_seconds_count has no label le"]),
        (
            'rate(journey_decisions_total{outcome=~"sent|spent"}[5m])',
            ["journey_decisions_total: 'spent' is no outcome"],
        ),
        (
            "journey_queue_depth / on (kind) group_left () journey_in_flight",
            ["journey_queue_depth has no label kind", "journey_in_flight has no label kind"],
        ),
        (
            "sum by (le) (journey:delivery_attempts_failed:share_5m)",
            ["journey:delivery_attempts_failed:share_5m has no label le"],
        ),
    ],
)
def test_a_fault_of_a_query_is_named(query: str, expected: list[str]) -> None:
    assert faults(query) == expected


def test_every_metric_is_shown_or_says_why_not() -> None:
    named = {selector.name for query in QUERIES for selector in selectors(promql.parse(query.text))}
    unseen = {constant for constant, metric in CATALOGUE.items() if not named & set(metric.samples)}
    assert unseen == set(NOT_SHOWN)


def test_every_recording_rule_is_used() -> None:
    named = {selector.name for query in QUERIES for selector in selectors(promql.parse(query.text))}
    assert set(RECORDED) - named == set()


# ----------------------------------------------------------------------------------------------------- code


class MetricUses(ast.NodeVisitor):
    """Finds which constants of ``orchestrator.metrics`` a module uses, and how."""

    def __init__(self, source: str) -> None:
        self.modules: set[str] = set()
        self.names: dict[str, str] = {}
        self.used: set[str] = set()
        self.removed: set[str] = set()
        self.faults: list[str] = []
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                self._note_import(node)
        self.visit(tree)

    def _note_import(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if (node.module, alias.name) == ("orchestrator", "metrics"):
                self.modules.add(alias.asname or alias.name)
            elif node.module == "orchestrator.metrics":
                self.names[alias.asname or alias.name] = alias.name

    def _constant(self, node: ast.expr) -> str | None:
        match node:
            case ast.Name(id=name):
                return self.names.get(name)
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in self.modules:
                return name
        return None

    def visit_Name(self, node: ast.Name) -> None:
        self._note(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._note(node)
        self.generic_visit(node)

    def _note(self, node: ast.expr) -> None:
        if constant := self._constant(node):
            self.used.add(constant)
            if constant not in CATALOGUE:
                self.faults.append(f"{node.lineno}: {constant} is not in the catalogue")

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        if not isinstance(node.func, ast.Attribute):
            return
        metric = CATALOGUE.get(self._constant(node.func.value) or "")
        if metric is not None:
            if node.func.attr == "remove":
                self.removed.add(metric.constant)
            self.faults += [f"{node.lineno}: {fault}" for fault in call_faults(metric, node.func.attr, node)]


def call_faults(metric: Metric, method: str, call: ast.Call) -> Iterator[str]:
    """Say what is wrong with a call of a method of a metric."""
    if method == "labels":
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        given |= dict(zip(metric.labels, call.args, strict=False))
        if None in given or any(isinstance(argument, ast.Starred) for argument in call.args):
            return
        if set(given) != set(metric.labels) or len(call.args) + len(call.keywords) != len(metric.labels):
            yield f"{metric.constant} takes the labels {', '.join(metric.labels) or 'none'}"
        for label, value in given.items():
            allowed = WORDS.get((metric.constant, str(label)))
            if allowed and isinstance(value, ast.Constant) and value.value not in allowed:
                yield f"{metric.constant}: {value.value!r} is no {label}"
    elif method in {"inc", "dec", "set", "observe", "time"} and metric.labels:
        yield f"{metric.constant} is used without its labels"
    elif method == "info" and call.args and isinstance(call.args[0], ast.Dict):
        keys = {key.value for key in call.args[0].keys if isinstance(key, ast.Constant)}
        if keys != INFO_LABELS[metric.constant]:
            yield f"{metric.constant} takes the labels {', '.join(sorted(INFO_LABELS[metric.constant]))}"


@pytest.mark.parametrize(
    ("line", "used", "found"),
    [
        ("metrics.FENCED.inc()", {"FENCED"}, []),
        ("FROM.labels('sms').set(1)", {"QUEUE_DEPTH"}, []),
        ("lag = metrics.PARTITION_LAG", {"PARTITION_LAG"}, []),
        ("metrics.PARTITION_LAG.labels(partition=3).set(1)", {"PARTITION_LAG"}, []),
        ("metrics.PARTITION_LAG.set(1)", {"PARTITION_LAG"}, ["3: PARTITION_LAG is used without its labels"]),
        ("metrics.FENCED.labels('a').inc()", {"FENCED"}, ["3: FENCED takes the labels none"]),
        (
            "metrics.DECISIONS.labels('r', 'sent').inc()",
            {"DECISIONS"},
            ["3: DECISIONS takes the labels rule, outcome, reason"],
        ),
        ("metrics.DECISIONS.labels('r', 'x', why).inc()", {"DECISIONS"}, ["3: DECISIONS: 'x' is no outcome"]),
        ("metrics.RULEBOOK.info({'name': v})", {"RULEBOOK"}, ["3: RULEBOOK takes the labels version"]),
        ("metrics.LAG.set(1)", {"LAG"}, ["3: LAG is not in the catalogue"]),
        ("other.FENCED.inc()", set(), []),
    ],
)
def test_a_use_of_a_metric_is_found_with_its_faults(line: str, used: set[str], found: list[str]) -> None:
    uses = MetricUses(f"from orchestrator import metrics\nfrom orchestrator.metrics import QUEUE_DEPTH as FROM\n{line}")
    assert (uses.used, uses.faults) == (used, found)


def test_the_code_uses_metrics_with_the_labels_of_the_catalogue() -> None:
    found = [f"{path.relative_to(ROOT)}:{fault}" for path in SOURCES for fault in MetricUses(path.read_text()).faults]
    assert found == []


def test_every_metric_of_the_catalogue_is_emitted() -> None:
    used = {constant for path in SOURCES for constant in MetricUses(path.read_text()).used}
    missing = sorted(set(CATALOGUE) - used)
    assert not missing, f"no module of orchestrator/ emits {', '.join(missing)}"


def test_a_partition_that_is_given_up_leaves_no_gauge_behind() -> None:
    """A gauge that stays would go on reporting the last lag of a partition that another worker has taken over."""
    of_partitions = {
        name for name, metric in CATALOGUE.items() if metric.kind == "gauge" and "partition" in metric.labels
    }
    removed = {constant for path in SOURCES for constant in MetricUses(path.read_text()).removed}
    missing = sorted(of_partitions - removed)
    assert of_partitions and not missing, f"no module of orchestrator/ calls remove(partition) on {', '.join(missing)}"
