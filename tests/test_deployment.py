"""Compositions and manifests for several hosts, as far as they can be held without an engine."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from lastcall.settings import ServerSettings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
MANIFESTS = [DEPLOY / "kubernetes.yaml", DEPLOY / "kubernetes-hosts.yaml"]
ENGINES = ["redis", "nats"]

every_manifest = pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
every_engine = pytest.mark.parametrize("engine", ENGINES)


def manifest(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What is in it, by kind and name."""
    found = [each for each in yaml.safe_load_all(path.read_text()) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


# --- compose.yaml


def test_without_a_profile_one_host_starts() -> None:
    assert [name for name, each in SERVICES.items() if "profiles" not in each] == ["lastcall"]


@every_engine
def test_a_profile_is_three_hosts_behind_nginx_and_their_engine(engine: str) -> None:
    parts = {name for name, each in SERVICES.items() if each.get("profiles") == [engine]}
    hosts, nginx = SERVICES[f"lastcall-{engine}"], SERVICES[f"nginx-{engine}"]

    assert parts == {engine, f"lastcall-{engine}", f"nginx-{engine}"}
    assert hosts["deploy"]["replicas"] == 3
    assert list(hosts["depends_on"]) == [engine]
    assert list(nginx["depends_on"]) == [f"lastcall-{engine}"]
    assert "ports" not in hosts
    assert nginx["ports"] == ["8080:80"]


@every_engine
def test_hosts_differ_from_one_host_in_one_line(engine: str) -> None:
    """And in how they are reached, and in what outlives them."""
    one, hosts = SERVICES["lastcall"], SERVICES[f"lastcall-{engine}"]
    own = {"ports", "volumes", "tmpfs", "profiles", "deploy", "depends_on", "networks", "command"}

    assert {k: v for k, v in hosts.items() if k not in own | {"environment"}} == {
        k: v for k, v in one.items() if k not in own
    }
    assert list(hosts["environment"]) == ["LASTCALL_BROKER_URL"]
    assert hosts["environment"]["LASTCALL_BROKER_URL"].startswith(f"{engine}://{engine}:")
    assert any(each.startswith("/var/lib/lastcall:") for each in hosts["tmpfs"])


@every_engine
def test_nginx_finds_the_hosts_by_their_common_name(engine: str) -> None:
    upstream = (DEPLOY / "nginx-upstream.conf").read_text()
    mounted = [each.split(":")[0] for each in SERVICES[f"nginx-{engine}"]["volumes"]]
    networks = SERVICES[f"lastcall-{engine}"]["networks"]

    assert [network["aliases"] for network in networks.values()] == [["lastcall-hosts"]]
    assert list(networks) == SERVICES[f"nginx-{engine}"]["networks"] == [engine]
    assert "server lastcall-hosts:8000 resolve" in upstream
    assert mounted == ["./deploy/nginx-hosts.conf", "./deploy/nginx-upstream.conf"]
    assert all((ROOT / path).is_file() for path in mounted)


@every_engine
def test_what_is_named_exists(engine: str) -> None:
    for name in (engine, f"lastcall-{engine}", f"nginx-{engine}"):
        assert set(SERVICES[name]["networks"]) <= set(COMPOSE["networks"])
    (volume,) = SERVICES[engine]["volumes"]
    assert volume.partition(":")[0] in COMPOSE["volumes"]


# --- Kubernetes


@every_manifest
def test_pod_is_killed_only_after_its_drain(path: Path) -> None:
    deployment = manifest(path)["Deployment", "lastcall"]
    pod, environment = deployment["spec"]["template"]["spec"], env(deployment)
    (_, delay) = container(deployment)["lifecycle"]["preStop"]["exec"]["command"]

    needed = int(delay) + int(environment["LASTCALL_SHUTDOWN_TIMEOUT"]) + 5
    assert pod["terminationGracePeriodSeconds"] >= needed


@every_manifest
def test_the_next_pod_is_ready_before_one_leaves(path: Path) -> None:
    deployment = manifest(path)["Deployment", "lastcall"]

    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert container(deployment)["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    for probe in ("livenessProbe", "startupProbe"):
        assert container(deployment)[probe]["httpGet"]["path"] == "/health/live"


@every_manifest
def test_what_is_selected_is_there(path: Path) -> None:
    found = manifest(path)
    labels = [
        each["spec"]["template"]["metadata"]["labels"]
        for (kind, _), each in found.items()
        if kind in {"Deployment", "StatefulSet"}
    ]
    for (kind, _), each in found.items():
        if kind == "Service":
            assert each["spec"]["selector"] in labels
        elif kind == "PodDisruptionBudget":
            assert each["spec"]["selector"]["matchLabels"] in labels


@every_manifest
def test_settings_in_the_manifest_are_allowed(path: Path) -> None:
    found = manifest(path)
    variables = env(found["Deployment", "lastcall"], found.get(("Secret", "lastcall")))
    settings = {name.removeprefix("LASTCALL_").lower(): value for name, value in variables.items()}

    assert set(settings) <= set(ServerSettings.model_fields)
    ServerSettings(**settings)  # type: ignore[arg-type]


def test_the_secret_is_one_password_in_two_forms() -> None:
    """Who changes one of them finds the other beside it."""
    found = manifest(DEPLOY / "kubernetes-hosts.yaml")
    secret = found["Secret", "lastcall"]["stringData"]
    redis = container(found["StatefulSet", "redis"])
    url = re.fullmatch(r"redis://:(?P<password>.+)@(?P<host>\w+):6379/0", secret["broker-url"])

    assert url is not None
    assert url["password"] == secret["redis-password"]
    assert ("Service", url["host"]) in found
    assert redis["args"][-2:] == ["--requirepass", "$(REDIS_PASSWORD)"]
    assert redis["env"][0]["valueFrom"]["secretKeyRef"]["key"] == "redis-password"


@pytest.mark.parametrize("place", ["compose", "kubernetes"])
def test_redis_keeps_what_it_has_and_evicts_nothing(place: str) -> None:
    command = SERVICES["redis"]["command"]
    if place == "kubernetes":
        redis = manifest(DEPLOY / "kubernetes-hosts.yaml")["StatefulSet", "redis"]
        command = container(redis)["args"]
    options = dict(pairwise(command))

    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"


def env(deployment: dict[str, Any], secret: dict[str, Any] | None = None) -> dict[str, str]:
    """The container's variables; those of a secret as it is in the file."""
    found: dict[str, str] = {}
    for each in container(deployment)["env"]:
        if "value" in each:
            found[each["name"]] = each["value"]
        elif secret is not None:
            key = each["valueFrom"]["secretKeyRef"]["key"]
            found[each["name"]] = secret["stringData"][key]
    return found
