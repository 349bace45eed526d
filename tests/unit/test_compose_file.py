"""docker-compose.yml against what embedded mode says of the same things, and against its own rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.cluster.standing import REQUEST
from infra.compose.keys import KEYS, ensure_keys
from infra.compose.nodes import roles
from infra.compose.stack import HOME, JOB, KEEPER, PROJECT
from infra.contracts.resources import read_request
from infra.local.kafka import properties
from infra.metrics import METRICS
from infra.settings import ROOT

# What the start of a broker works out from BROKERS and its host name.
WORKED_OUT = {
    "controller.quorum.voters", "node.id", "advertised.listeners", "default.replication.factor",
    "min.insync.replicas", "offsets.topic.replication.factor", "transaction.state.log.replication.factor",
    "transaction.state.log.min.isr", "share.coordinator.state.topic.replication.factor",
    "share.coordinator.state.topic.min.isr",
}  # fmt: skip
ELSEWHERE = {"listeners", "log.dirs"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file as it is written."""
    text = (ROOT / "docker-compose.yml").read_text()
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def variable(name: str) -> str:
    """How a broker's property is given to Kafka's image."""
    return f"KAFKA_{name.upper().replace('.', '_')}"


def test_brokers_are_set_as_embedded_ones(compose: dict[str, Any]) -> None:
    """Every property of an embedded broker is in the file with its value, or worked out at the start."""
    lines = properties(1, (1, 2), Path("/data")).splitlines()
    embedded = dict(line.split("=", 1) for line in lines if line)
    given = compose["x-kafka-environment"]
    start = compose["x-kafka"]["command"][-1]
    for name, value in embedded.items():
        if name in WORKED_OUT:
            assert f"{variable(name)}=" in start, name
        elif name not in ELSEWHERE:
            assert given[variable(name)] == value, name


def test_nothing_is_published_beyond_loopback(compose: dict[str, Any]) -> None:
    """Every published port is bound to 127.0.0.1."""
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_container_has_the_engine(compose: dict[str, Any]) -> None:
    """No service mounts the engine's socket or a folder of the machine, or is privileged."""
    for name, service in compose["services"].items():
        assert not service.get("privileged"), name
        assert all(not volume.startswith(("/", ".")) for volume in service.get("volumes", ())), name


def test_keys_are_named_once(compose: dict[str, Any]) -> None:
    """Every key file that a service reads is one that the `keys` service makes."""
    text = (ROOT / "docker-compose.yml").read_text()
    named = {word.split("/run/keys/")[1].strip('",]}') for word in text.split() if "/run/keys/" in word}
    assert named <= set(KEYS)


def test_keys_are_made_once(tmp_path: Path) -> None:
    """Each key is a file of its own that only its owner reads; a second start changes none."""
    assert ensure_keys(tmp_path) == list(KEYS)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert set(found) == set(KEYS)
    assert len(set(found.values())) == len(KEYS)
    assert all(len(text) >= 16 for text in found.values())
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    assert ensure_keys(tmp_path) == []
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == found


def test_the_standing_cluster_has_the_nodes_that_it_asks_for(compose: dict[str, Any]) -> None:
    """standing.json's counts, the node services and the manager's MILLSTREAM_NODES agree."""
    groups = read_request(REQUEST)["Instances"]["InstanceGroups"]
    services = compose["services"]
    hosts = services["cluster-manager"]["environment"]["MILLSTREAM_NODES"].split(",")
    assert len(hosts) == sum(group["InstanceCount"] for group in groups)
    assert all(services[host]["hostname"] == host for host in hosts)


def test_names_in_code_are_those_of_the_file(compose: dict[str, Any]) -> None:
    """The door finds its project, its services and the home."""
    assert compose["name"] == PROJECT
    assert {JOB, KEEPER, "node", "producer"} <= set(compose["services"])
    assert f"home:{HOME}" in compose["x-app"]["volumes"]


def test_a_job_asks_for_as_many_nodes_as_its_request() -> None:
    """CORE and TASK change the counts that the request declares."""
    assert roles([]) == ["MASTER", "CORE", "CORE", "TASK"]
    assert roles(["--core", "1", "--task", "0"]) == ["MASTER", "CORE"]


def test_alert_rules_name_metrics_that_there_are() -> None:
    """Every metric in a rule is declared, with the labels that the rule sums by."""
    rules = yaml.safe_load((ROOT / "infra/docker/alerts.yml").read_text())["groups"][0]["rules"]
    named = {word for rule in rules for word in re.findall(r"millstream_(\w+)", rule["expr"])}
    assert named
    assert named <= set(METRICS)


def test_prometheus_scrapes_every_service_of_ours(compose: dict[str, Any]) -> None:
    """Each service that serves metrics is a target; so a new one can't be forgotten."""
    config = yaml.safe_load((ROOT / "infra/docker/prometheus.yml").read_text())
    targets = set(config["scrape_configs"][0]["static_configs"][0]["targets"])
    ours = {
        f"{service['hostname']}:9100"
        for name, service in compose["services"].items()
        if service.get("image", "").startswith("${MILLSTREAM_IMAGE")
        and "profiles" not in service
        and service.get("restart") != "no"
        and name != "console"
    }
    assert targets == ours
