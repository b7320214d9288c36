"""The folder cluster/: valid for those who read its files, and closed to everyone else."""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
SCHEMAS = Path(__file__).parent / "schemas"
FILES = sorted(path for path in CLUSTER.rglob("*") if path.is_file())
LAUNCHERS = ("aws.yaml", "gcp.yaml")
MANIFESTS = sorted(
    path for path in CLUSTER.glob("kubernetes/*.yaml") if path.name != "kustomization.yaml"
)
LOCKS = ("requirements.lock", "requirements-cluster.lock")
LOCK = dict(
    re.findall(r"^([\w.-]+)==(\S+)", "\n".join((ROOT / lock).read_text() for lock in LOCKS), re.M)
)

Json = dict[str, Any]


def launcher(name: str) -> Json:
    return yaml.safe_load((CLUSTER / name).read_text())


def documents() -> list[Json]:
    return [doc for path in MANIFESTS for doc in yaml.safe_load_all(path.read_text())]


def named(kind: str, name: str) -> Json:
    return next(
        doc for doc in documents() if (doc["kind"], doc["metadata"].get("name")) == (kind, name)
    )


def nodes_of(value: Any) -> Iterator[Json]:
    """Yield every mapping in a document, itself first."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, dict | list):
            yield from nodes_of(child)


def pods() -> list[tuple[str, Json]]:
    found = [
        (doc["metadata"]["name"], node["template"]["spec"])
        for doc in documents()
        for node in nodes_of(doc)
        if "template" in node
    ]
    assert len(found) == 4
    return found


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry().with_resources(
        (path.name, Resource.from_contents(json.loads(path.read_text()), DRAFT202012))
        for path in SCHEMAS.glob("*.json")
    )


def errors(document: Json, registry: Registry) -> list[str]:
    kind, group = document["kind"], document["apiVersion"].rpartition("/")[0]
    if group == "ray.io":
        reference = f"kuberay.json#/{kind}"
    else:
        place = {"": "core", "networking.k8s.io": "networking"}.get(group, group)
        reference = f"kubernetes.json#/$defs/io.k8s.api.{place}.v1.{kind}"
    check = Draft202012Validator({"$ref": reference}, registry=registry)
    return [f"{error.json_path}: {error.message}" for error in check.iter_errors(document)]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_accepts_a_launcher_file(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(launcher(name))
    validate_config(config)
    wrong = copy.deepcopy(config)
    wrong["available_node_types"]["gpu_l4"]["min_worker"] = 0
    with pytest.raises(Exception, match="min_worker"):
        validate_config(wrong)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_file_trains_on_spot_workers_that_come_and_go(name: str) -> None:
    config = launcher(name)
    types = dict(config["available_node_types"])
    head = types.pop(config["head_node_type"])
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert types
    for worker in types.values():
        assert worker["min_workers"] == 0
        assert "spot" in json.dumps(worker["node_config"]).lower()
    assert 0 < config["idle_timeout_minutes"] <= 10
    assert not config["provider"].get("cache_stopped_nodes")
    for local in config["file_mounts"].values():
        assert local.startswith("~") or (ROOT / local).exists(), local


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_launcher_file_lets_nobody_in(name: str) -> None:
    config = launcher(name)
    assert config["provider"]["use_internal_ips"] is True
    for kind in config["available_node_types"].values():
        node = kind["node_config"]
        if name == "aws.yaml":
            (interface,) = node["NetworkInterfaces"]
            assert interface["AssociatePublicIpAddress"] is False
            assert node["MetadataOptions"]["HttpTokens"] == "required"
            assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"])
        else:
            (interface,) = node["networkInterfaces"]
            assert set(interface) == {"subnetwork"}  # accessConfigs would be an address
            items = {item["key"]: item["value"] for item in node["metadata"]["items"]}
            assert items["block-project-ssh-keys"] == "true"
    starts = [
        command
        for role in ("head", "worker")
        for command in config[f"{role}_start_ray_commands"]
        if "ray start" in command
    ]
    assert len(starts) == 2
    assert all("export RAY_AUTH_MODE=token;" in command for command in starts)
    head = shlex.split(starts[0])
    assert {"--dashboard-host=127.0.0.1", "--num-cpus=0", "--num-gpus=0"} < set(head)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    proxy, provider = config["auth"]["ssh_proxy_command"], config["provider"]
    assert config["auth"]["ssh_proxy_use_node_id"] is True
    place = "region" if name == "aws.yaml" else "availability_zone"
    assert provider[place] in shlex.split(proxy)


def test_the_policies_for_aws_allow_what_is_needed() -> None:
    for path in CLUSTER.glob("aws-*.json"):
        for statement in json.loads(path.read_text())["Statement"]:
            actions = statement["Action"]
            for action in [actions] if isinstance(actions, str) else actions:
                assert "*" not in action
                reads = action.split(":")[1].startswith(("Describe", "Get"))
                assert reads or statement["Resource"] != "*" or "Condition" in statement, action


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_fits_its_schema(path: Path, registry: Registry) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        assert errors(document, registry) == []
        assert errors({**document, "sepc": {}}, registry)


def test_schemas_reach_into_the_pods_of_a_ray_cluster(registry: Registry) -> None:
    cluster = named("RayCluster", "sqtune")
    pod = cluster["spec"]["workerGroupSpecs"][0]["template"]["spec"]
    pod["containers"][0]["resources"]["limit"] = {}
    (error,) = errors(cluster, registry)
    assert "limit" in error


def test_kustomize_is_told_of_every_file() -> None:
    kustomization = launcher("kubernetes/kustomization.yaml")
    assert set(kustomization["resources"]) == {path.name for path in MANIFESTS} - {"rayjob.yaml"}
    for config_map in kustomization["configMapGenerator"]:
        for entry in [*config_map.get("files", []), *config_map.get("envs", [])]:
            assert (CLUSTER / "kubernetes" / entry.rpartition("=")[2]).exists()
    made = {config_map["name"] for config_map in kustomization["configMapGenerator"]}
    used = {
        node[key]["name"]
        for _, pod in pods()
        for node in nodes_of(pod)
        for key in ("configMapRef", "configMap")
        if key in node
    }
    assert used == made | {"kube-root-ca.crt"}  # that one is Kubernetes' own


@pytest.mark.parametrize(("name", "pod"), pods())
def test_a_pod_can_do_little(name: str, pod: Json) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert not any("hostPath" in volume for volume in pod["volumes"])
    for container in pod["containers"]:
        locked = container["securityContext"]
        assert locked["readOnlyRootFilesystem"] is True
        assert locked["allowPrivilegeEscalation"] is False
        assert locked["capabilities"] == {"drop": ["ALL"]}
        for bound in ("requests", "limits"):
            assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"][bound])


def test_the_database_is_set_up_by_a_process_of_its_own() -> None:
    pod = named("StatefulSet", "postgres")["spec"]["template"]["spec"]
    (init,) = [volume["configMap"] for volume in pod["volumes"] if "configMap" in volume]
    assert init["defaultMode"] == 0o555  # a plain file would be sourced: "set -u" with it


def test_only_the_autoscaler_may_talk_to_kubernetes() -> None:
    spec = named("RayCluster", "sqtune")["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    mounted = {mount["name"] for mount in spec["autoscalerOptions"]["volumeMounts"]}
    assert "api-token" in mounted
    for _, pod in pods():
        for container in pod["containers"]:
            assert "api-token" not in {mount["name"] for mount in container["volumeMounts"]}
    (group,) = spec["workerGroupSpecs"]
    assert group["minReplicas"] == group["replicas"] == 0
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    worker_env = group["template"]["spec"]["containers"][0]["env"]
    assert not any("valueFrom" in entry for entry in worker_env)  # no passwords on workers


def test_secrets_are_made_by_the_script_and_never_written_down() -> None:
    assert not any(document["kind"] == "Secret" for document in documents())
    script = (CLUSTER / "kubernetes" / "secrets.sh").read_text()
    made = set(re.search(r"for name in ([\w -]+);", script)[1].split())
    used: set[str] = set()
    for _, pod in pods():
        for node in nodes_of(pod):
            if re.search(r"PASSWORD$|TOKEN$|SECRET|_KEY$", node.get("name", "")):
                assert "value" not in node, node
            for key in ("secretKeyRef", "secret"):
                if key in node:
                    used.add(node[key]["name"])
    assert used == made


def test_nothing_talks_to_anything_that_is_not_listed() -> None:
    policies = [doc["spec"] for doc in documents() if doc["kind"] == "NetworkPolicy"]
    assert named("NetworkPolicy", "deny-all")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
    }
    for policy in policies:
        for rule in policy.get("ingress", []):
            assert rule["from"]
            assert not any("ipBlock" in source for source in rule["from"])
    for name in ("head", "tracking", "postgres"):
        assert named("NetworkPolicy", name)["spec"]["ingress"][0]["ports"]
    assert "egress" not in named("NetworkPolicy", "postgres")["spec"]
    for document in documents():
        if document["kind"] == "Service":
            assert document["spec"].get("type", "ClusterIP") == "ClusterIP"
