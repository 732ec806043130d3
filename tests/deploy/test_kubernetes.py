"""The manifests: what they say of each other, the image and the service; and built, where kubectl is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import pytest
import samples

from coordinator.settings import Settings, load

BASE: Final = samples.KUBERNETES / "base"
OVERLAYS: Final = sorted((samples.KUBERNETES / "overlays").iterdir())
KUSTOMIZATION: Final = "kustomization.yaml"
STAGE: Final = samples.last_stage(samples.DOCKER / "coordinator.Dockerfile")
_GIB: Final = 2**30


def _kustomization(folder: Path) -> dict[str, Any]:
    (found,) = samples.documents(folder / KUSTOMIZATION)
    return found


def _resources() -> dict[str, dict[str, Any]]:
    """The base's resources by kind; there is one of each."""
    found = [document for name in _kustomization(BASE)["resources"] for document in samples.documents(BASE / name)]
    assert len({document["kind"] for document in found}) == len(found)
    return {document["kind"]: document for document in found}


RESOURCES: Final = _resources()
PODS: Final = {kind: RESOURCES[kind]["spec"]["template"] for kind in ("Deployment", "Job")}
pods = pytest.mark.parametrize("kind", PODS)


def _container(kind: str) -> dict[str, Any]:
    (container,) = PODS[kind]["spec"]["containers"]
    return container


@pytest.mark.parametrize("folder", [BASE, *OVERLAYS], ids=lambda folder: folder.name)
def test_each_file_is_listed_and_each_listed_file_is_there(folder: Path) -> None:
    said = _kustomization(folder)
    patches = [patch["path"] for patch in said.get("patches", ())]
    listed = {name for name in said["resources"] if not name.startswith("..")} | set(patches)
    assert listed == {path.name for path in folder.iterdir()} - {KUSTOMIZATION}
    for name in said["resources"]:
        assert (folder / name).exists()


def test_everything_is_there_and_no_secret() -> None:
    assert set(RESOURCES) == {
        *("Deployment", "Job", "ConfigMap", "Service", "Ingress"),
        *("PersistentVolumeClaim", "NetworkPolicy", "PodDisruptionBudget"),
    }
    everything = list(samples.KUBERNETES.rglob("*.yaml"))
    assert not [path for path in everything if re.search(r"^kind: Secret", path.read_text(), re.MULTILINE)]


@pods
def test_its_settings_work(kind: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container, data = _container(kind), RESOURCES["ConfigMap"]["data"]
    (source,) = container["envFrom"]
    assert source["configMapRef"]["name"] == RESOURCES["ConfigMap"]["metadata"]["name"]
    inside = Path(data["PLEURA_CONFIG"])
    outside = elsewhere / inside.name
    outside.write_text((samples.DOCKER / "secrets.toml.sample").read_text())
    for name, value in {**samples.pairs(STAGE, "ENV"), **data}.items():
        assert isinstance(value, str), f"{name}: a ConfigMap holds texts"
        if name.startswith("PLEURA_"):
            monkeypatch.setenv(name, value.replace(str(inside), str(outside)))
    settings = load()
    assert settings.secure_cookies
    assert settings.database.startswith("postgresql+psycopg://"), "two replicas cannot share SQLite"
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in PODS[kind]["spec"]["volumes"]}
    claim = volumes[mounts[str(settings.data_dir)]]["persistentVolumeClaim"]["claimName"]
    assert claim == RESOURCES["PersistentVolumeClaim"]["metadata"]["name"]
    assert RESOURCES["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]
    secret = volumes[mounts[str(inside.parent)]]["secret"]["secretName"]
    assert f"create secret generic {secret} --from-file={inside.name}" in samples.PAGE.read_text()
    assert set(mounts.values()) == set(volumes)
    if kind == "Deployment":
        assert container["ports"] == [{"name": "http", "containerPort": settings.port}]


@pods
def test_its_command_is_there(kind: str) -> None:
    container = _container(kind)
    assert "command" not in container, "the image's own"
    samples.check_command(samples.entrypoint(samples.DOCKER / "coordinator.Dockerfile", container["args"]))


@pods
def test_it_is_confined(kind: str) -> None:
    pod, container = PODS[kind]["spec"], _container(kind)
    user, group = map(int, samples.only(STAGE, "USER").split(":"))
    expected = {"runAsNonRoot": True, "runAsUser": user, "runAsGroup": group, "fsGroup": group}
    assert pod["securityContext"].items() >= {**expected, "seccompProfile": {"type": "RuntimeDefault"}}.items()
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a Service named pleura would set PLEURA_PORT"


def test_probes_ask_what_is_there(calls: samples.Calls) -> None:
    container = _container("Deployment")
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in asked.values()} == {container["ports"][0]["name"]}
    assert all("get" in calls[probe["path"]] for probe in asked.values())
    assert asked["liveness"]["path"] == "/healthz", "a database that is away is no reason to restart"
    assert asked["readiness"]["path"] == "/readyz"


def test_they_find_each_other() -> None:
    labels = PODS["Deployment"]["metadata"]["labels"]
    assert RESOURCES["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert RESOURCES["Deployment"]["spec"]["replicas"] == 2
    assert RESOURCES["Service"]["spec"]["selector"] == labels
    assert RESOURCES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert RESOURCES["PodDisruptionBudget"]["spec"]["minAvailable"] < 2
    assert PODS["Job"]["metadata"]["labels"] != labels, "no call may reach a migration"
    (port,) = RESOURCES["Service"]["spec"]["ports"]
    assert port["targetPort"] == _container("Deployment")["ports"][0]["name"]
    (rule,) = RESOURCES["Ingress"]["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {
        "name": RESOURCES["Service"]["metadata"]["name"],
        "port": {"name": port["name"]},
    }
    assert RESOURCES["Ingress"]["spec"]["tls"][0]["hosts"] == [rule["host"]]


def test_who_may_call_and_be_called() -> None:
    policy = RESOURCES["NetworkPolicy"]["spec"]
    (label,) = _kustomization(BASE)["labels"]
    assert label == {"pairs": policy["podSelector"]["matchLabels"], "includeSelectors": True}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (inwards,) = policy["ingress"]
    assert inwards["ports"] == [{"port": _container("Deployment")["ports"][0]["name"]}]
    assert inwards["from"], "an empty list admits everybody"
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {53, 5432}


def test_the_example_lets_through_what_the_coordinator_takes(calls: samples.Calls) -> None:
    (patch,) = [
        step["value"] for document in samples.documents(OVERLAYS[0] / "ingress.yaml")
        for step in document if step["path"] == "/metadata/annotations"
    ]  # fmt: skip
    said = {name.removeprefix("nginx.ingress.kubernetes.io/"): value for name, value in patch.items()}
    assert all(isinstance(value, str) for value in said.values())
    assert int(said["proxy-body-size"].removesuffix("g")) * _GIB >= Settings().max_model_bytes
    assert int(said["proxy-read-timeout"]) > samples.longest_wait(calls)
    assert not [name for name in said if name.startswith(("affinity", "session-cookie"))], "logins are in the database"


def test_the_example_lets_webhooks_out_and_prometheus_in() -> None:
    (steps,) = samples.documents(OVERLAYS[0] / "network-policy.yaml")
    added = {step["path"]: step["value"] for step in steps if step["op"] == "add"}
    assert set(added) == {"/spec/egress/-", "/spec/ingress/-"}, "the base's rules stay"
    assert added["/spec/egress/-"]["ports"] == [{"port": 443, "protocol": "TCP"}]
    (block,) = (to["ipBlock"] for to in added["/spec/egress/-"]["to"])
    for inside in ("10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254"):
        assert any(ip_address(inside) in ip_network(network) for network in block["except"])
    assert added["/spec/ingress/-"]["ports"] == RESOURCES["NetworkPolicy"]["spec"]["ingress"][0]["ports"]
    assert added["/spec/ingress/-"]["from"], "an empty list admits everybody"


def test_patches_are_for_what_is_there() -> None:
    base = {(document["kind"], document["metadata"]["name"]) for document in RESOURCES.values()}
    for overlay in OVERLAYS:
        said = _kustomization(overlay)
        assert {image["name"] for image in said["images"]} == {_container(kind)["image"] for kind in PODS}
        for patch in said["patches"]:
            (document,) = samples.documents(overlay / patch["path"])
            target = patch.get("target") or {"kind": document["kind"], "name": document["metadata"]["name"]}
            assert (target["kind"], target["name"]) in base


@pytest.fixture(params=OVERLAYS, ids=lambda folder: folder.name)
def built(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """An overlay as kubectl builds it, by kind."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", str(request.param)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {document["kind"]: document for document in samples.yaml.safe_load_all(done.stdout)}


def test_the_overlay_builds(built: dict[str, dict[str, Any]]) -> None:
    assert set(built) == {*RESOURCES, "Namespace"}
    namespace = built["Namespace"]["metadata"]["name"]
    assert {document["metadata"].get("namespace", namespace) for document in built.values()} == {namespace}
    assert f"kubectl -n {namespace} " in samples.PAGE.read_text()
    for kind in PODS:
        assert "/" in built[kind]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert built["ConfigMap"]["data"].items() > RESOURCES["ConfigMap"]["data"].items()
    pod = built["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        built["Deployment"]["spec"]["selector"]["matchLabels"],
        built["Service"]["spec"]["selector"],
        built["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector == pod
    for kind in PODS:
        labels = built[kind]["spec"]["template"]["metadata"]["labels"]
        assert labels.items() >= built["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items()
    (rule,) = built["Ingress"]["spec"]["rules"]
    assert built["Ingress"]["spec"]["tls"][0]["hosts"] == [rule["host"]]
    assert rule["host"] != RESOURCES["Ingress"]["spec"]["rules"][0]["host"], "the patch found its place"
