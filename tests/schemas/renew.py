"""Takes the schemas out of the packages that README.md names. Needs pip."""

import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).parent
KINDS = {
    "Deployment": "io.k8s.api.apps.v1.Deployment",
    "Job": "io.k8s.api.batch.v1.Job",
    "Service": "io.k8s.api.core.v1.Service",
    "ServiceAccount": "io.k8s.api.core.v1.ServiceAccount",
    "ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "Namespace": "io.k8s.api.core.v1.Namespace",
    "NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "PersistentVolumeClaim": "io.k8s.api.core.v1.PersistentVolumeClaim",
    "PodDisruptionBudget": "io.k8s.api.policy.v1.PodDisruptionBudget",
}


def wheel(requirement, folder):
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, requirement],
        check=True,
    )
    stem = requirement.split("==")[0].replace("-", "_")
    return zipfile.ZipFile(next(pathlib.Path(folder).glob(f"{stem}-*.whl")))


def plain(value):
    """Without what only people read, and with references into the same file."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, item in value.items():
        if key == "description" and isinstance(item, str):
            continue
        if key.startswith("x-kubernetes") or key == "$schema":
            continue
        if key == "$ref":
            item = "#/$defs/" + item.rsplit("/", 1)[1]
        kept[key] = plain(item)
    return kept


def references(value):
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref":
                yield item.rsplit("/", 1)[1]
            else:
                yield from references(item)


def main():
    with tempfile.TemporaryDirectory() as folder:
        compose = wheel("docker-compose==1.29.2", folder)
        (HERE / "compose-spec.json").write_bytes(compose.read("compose/config/compose_spec.json"))
        kubernetes = wheel("kubernetes-validate==1.37.0", folder)
        name = "kubernetes_validate/kubernetes-json-schema/v1.37.0-local-strict/_definitions.json"
        definitions = json.loads(kubernetes.read(name))["$defs"]
    kept, wanted = {}, set(KINDS.values())
    while wanted:
        name = wanted.pop()
        kept[name] = plain(definitions[name])
        wanted |= set(references(kept[name])) - set(kept)
    schema = {"kinds": KINDS, "$defs": kept}
    (HERE / "kubernetes.json").write_text(json.dumps(schema, indent=1, sort_keys=True) + "\n")


main()
