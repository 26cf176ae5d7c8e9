//! The manifests as kubectl builds them: valid by the Kubernetes schemas, restricted, and consistent with the
//! images, settings and routes of the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kindler::config::settings;
use serde_json::{Value, json};

use super::yaml::texts;
use super::{read, repository, succeeds, tool};

/// What `kubectl kustomize` builds from a folder, as text; `None` without kubectl.
fn built(folder: &Path) -> Option<String> {
    Some(succeeds(tool("kubectl")?.arg("kustomize").arg(folder)))
}

/// The manifests of the control plane, as they are applied; `None` without kubectl.
fn manifests() -> Option<Vec<Value>> {
    let text = built(&repository("deploy/kubernetes/control-plane"))?;
    Some(serde_saphyr::from_multiple(&text).unwrap())
}

fn name(manifest: &Value) -> &str {
    manifest["metadata"]["name"].as_str().unwrap()
}

fn of_kind<'a>(all: &'a [Value], kind: &str) -> Vec<&'a Value> {
    all.iter().filter(|one| one["kind"] == kind).collect()
}

/// The pods of Deployments and Jobs, by the manifest's name.
fn pods(all: &[Value]) -> BTreeMap<String, Value> {
    all.iter()
        .filter(|one| one["kind"] == "Deployment" || one["kind"] == "Job")
        .map(|one| (name(one).to_owned(), one["spec"]["template"].clone()))
        .collect()
}

fn container(pod: &Value) -> &Value {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    &containers[0]
}

#[test]
fn every_manifest_is_valid_by_its_schema() {
    let (Some(text), Some(mut validate)) = (
        built(&repository("deploy/kubernetes/control-plane")),
        tool("kubernetes-validate"),
    ) else {
        return;
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    succeeds(validate.arg("--strict").arg(file.path()));
}

#[test]
fn kustomize_builds_the_manifests() {
    for (folder, kinds) in [("api", 5), ("control-plane", 11)] {
        let Some(built) = built(&repository("deploy/kubernetes").join(folder)) else {
            return;
        };
        assert_eq!(built.matches("\nkind: ").count(), kinds, "{built}");
        assert!(built.contains("image: kindler:api") && !built.contains("image: kindler-api"));
    }
    let copy = tempfile::tempdir().unwrap();
    for part in ["api", "control-plane", "servicemonitor"] {
        succeeds(
            std::process::Command::new("cp")
                .arg("-r")
                .arg(repository("deploy/kubernetes").join(part))
                .arg(copy.path()),
        );
    }
    let components = "components:\n  - ../servicemonitor\n";
    let file = copy.path().join("control-plane/kustomization.yaml");
    let with = read(&file).replace("# components:\n#   - ../servicemonitor\n", components);
    assert!(with.contains(components), "the comment shows how: {with}");
    std::fs::write(&file, with).unwrap();
    let built = built(&copy.path().join("control-plane")).unwrap();
    assert!(built.contains("kind: ServiceMonitor"), "{built}");
}

#[test]
fn every_pod_is_restricted() {
    let Some(all) = manifests() else { return };
    for (name, pod) in pods(&all) {
        let spec = &pod["spec"];
        let (of_pod, of_container) = (&spec["securityContext"], container(&pod));
        assert_eq!(of_pod["runAsNonRoot"], true, "{name}");
        assert_eq!(of_pod["runAsUser"], 65532, "{name}");
        assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(spec["automountServiceAccountToken"], false, "{name}");
        let context = &of_container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}), "{name}");
        for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(spec[forbidden], Value::Null, "{name}");
        }
        let volumes = spec["volumes"].as_array().unwrap();
        assert!(volumes.iter().all(|volume| volume["hostPath"].is_null()));
        assert!(of_container["resources"]["limits"]["memory"].is_string());
        // Each mount has a volume, and each volume a mount.
        let names = |list: &Value| -> BTreeSet<String> {
            let items = list.as_array().unwrap().iter();
            items
                .map(|item| item["name"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(
            names(&of_container["volumeMounts"]),
            names(&spec["volumes"]),
            "{name}"
        );
    }
}

#[test]
fn secrets_are_not_shipped_but_documented() {
    let Some(all) = manifests() else { return };
    assert!(of_kind(&all, "Secret").is_empty());
    let how = read(repository(
        "deploy/kubernetes/control-plane/kustomization.yaml",
    ));
    for (name, pod) in pods(&all) {
        for volume in pod["spec"]["volumes"].as_array().unwrap() {
            if let Some(secret) = volume["secret"]["secretName"].as_str() {
                assert!(
                    how.contains(&format!("create secret generic {secret}")),
                    "{name}"
                );
                for item in volume["secret"]["items"].as_array().into_iter().flatten() {
                    let key = item["key"].as_str().unwrap();
                    assert!(
                        how.contains(&format!("--from-file={key}=")),
                        "{name}: {key}"
                    );
                }
            }
            if let Some(map) = volume["configMap"]["name"].as_str() {
                assert!(how.contains(&format!("create configmap {map}")), "{name}");
            }
        }
    }
}

#[test]
fn settings_arguments_ports_and_probes_exist_in_the_code() {
    let known: BTreeSet<_> = settings().into_iter().map(|setting| setting.env).collect();
    let Some(all) = manifests() else { return };
    let pods = pods(&all);
    assert_eq!(pods.len(), 3);
    for (name, pod) in &pods {
        let container = container(pod);
        let mut env = BTreeMap::new();
        for variable in container["env"].as_array().unwrap() {
            let variable_name = variable["name"].as_str().unwrap();
            let kindler_services = variable_name.starts_with("KINDLER_");
            assert!(
                !kindler_services || known.contains(variable_name),
                "{name}: {variable_name}"
            );
            env.insert(
                variable_name,
                variable["value"].as_str().unwrap_or_default(),
            );
        }
        super::assert_is_a_command(&texts(&container["args"]));
        // The URL's file is in a mounted folder.
        let files = ["KINDLER_DATABASE_URL_FILE", "KINDLER_API_DATABASE_URL_FILE"];
        let file = files.iter().find_map(|variable| env.get(variable));
        let file = Path::new(file.expect("a file with the URL"));
        let mounted = container["volumeMounts"].as_array().unwrap().iter();
        let mount = mounted
            .filter(|mount| file.starts_with(mount["mountPath"].as_str().unwrap()))
            .map(|mount| mount["name"].as_str().unwrap())
            .next()
            .unwrap();
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let volume = volumes
            .iter()
            .find(|volume| volume["name"] == mount)
            .unwrap();
        let items = volume["secret"]["items"].as_array().unwrap();
        let file_name = file.file_name().unwrap().to_str().unwrap();
        assert!(items.iter().any(|item| item["path"] == file_name), "{name}");

        if name == "kindler-migrate" {
            continue;
        }
        let port = container["ports"][0]["containerPort"].as_u64().unwrap();
        assert_eq!(env["KINDLER_LISTEN"], format!("0.0.0.0:{port}"));
        for (probe, path) in [
            ("startupProbe", "/healthz"),
            ("livenessProbe", "/healthz"),
            ("readinessProbe", "/readyz"),
        ] {
            assert_eq!(container[probe]["httpGet"]["path"], path, "{name}");
            assert_eq!(container[probe]["httpGet"]["port"], "http", "{name}");
        }
    }
}

#[test]
fn services_policies_and_budgets_select_existing_pods() {
    let Some(all) = manifests() else { return };
    let labels: Vec<Value> = pods(&all)
        .values()
        .map(|pod| pod["metadata"]["labels"].clone())
        .collect();
    let selected = |selector: &Value| {
        let expected = selector.as_object().unwrap();
        let matches = |of: &&Value| expected.iter().all(|(key, value)| of[key] == *value);
        labels.iter().filter(matches).count()
    };
    for service in of_kind(&all, "Service") {
        assert_eq!(
            selected(&service["spec"]["selector"]),
            1,
            "{}",
            name(service)
        );
    }
    for budget in of_kind(&all, "PodDisruptionBudget") {
        let selector = &budget["spec"]["selector"]["matchLabels"];
        assert_eq!(selected(selector), 1, "{}", name(budget));
    }
    // Every pod is selected by a network policy.
    let policies = of_kind(&all, "NetworkPolicy");
    assert_eq!(policies.len(), labels.len());
    for policy in policies {
        let selector = &policy["spec"]["podSelector"]["matchLabels"];
        assert_eq!(selected(selector), 1, "{}", name(policy));
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    }
    for deployment in of_kind(&all, "Deployment") {
        let own = &deployment["spec"]["selector"]["matchLabels"];
        assert_eq!(*own, deployment["spec"]["template"]["metadata"]["labels"]);
    }
}
