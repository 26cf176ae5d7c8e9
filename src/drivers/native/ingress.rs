//! The step `ingress`: Traefik in the namespace `traefik`, with a Service at the row's node port.
//!
//! Its objects are applied on the server, so that fields of others stay. k3s has a Traefik of its
//! own in another namespace, which brings the IngressClass with it.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::core::steps::StepObservation;

use super::api_client::{ApiConnection, KubeApiError};
use super::error::NativeError;
use super::kubeconfig;
use super::work::{LOOK_AGAIN, NativeWork, in_place};

/// The image of the controller.
pub(super) const IMAGE: &str = "traefik:v2.10";

/// How long its pod may take to be ready, also if its image is pulled.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long the objects may take to be read or applied.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// What a container waits for that does not end by itself.
const HOPELESS: [&str; 3] = ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"];

const SERVICE: &str = "/api/v1/namespaces/traefik/services/traefik";
const PODS: &str = "/api/v1/namespaces/traefik/pods?labelSelector=app%3Dtraefik";
const CLASS: &str = "/apis/networking.k8s.io/v1/ingressclasses/traefik";
/// How k3s installs its own.
const OF_K3S: &str = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmcharts/traefik";

/// What is wrong with the ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
enum IngressFault {
    /// Its objects are missing, or others.
    Objects(String),
    /// Its pod is about to be ready.
    Starting(String),
    /// Its pod needs help.
    Stuck(String),
}

impl IngressFault {
    fn into_text(self) -> String {
        match self {
            Self::Objects(why) | Self::Starting(why) | Self::Stuck(why) => why,
        }
    }
}

impl NativeWork<'_> {
    pub async fn observe_ingress(&self) -> Result<StepObservation, NativeError> {
        if !self.driver.settings.ingress {
            return Ok(StepObservation::InPlace);
        }
        let mut api = self.api().await?;
        let port = self.cluster().spec.node_port.get();
        let fault = answered(fault(&mut api, port)).await?;
        Ok(in_place(fault.map(IngressFault::into_text)))
    }

    /// Applies the objects, and waits for the pod.
    pub async fn apply_ingress(&self) -> Result<(), NativeError> {
        if !self.driver.settings.ingress {
            return Ok(());
        }
        let mut api = self.api().await?;
        let port = self.cluster().spec.node_port.get();
        answered(apply(&mut api, port)).await?;
        let within = self.at_most(READY_WITHIN);
        let until = within.end();
        loop {
            match answered(fault(&mut api, port)).await? {
                None => return Ok(()),
                Some(IngressFault::Starting(_)) if Instant::now() < until => {}
                Some(IngressFault::Starting(why)) => {
                    return Err(NativeError::NotReadyWithin { why, within });
                }
                Some(fault) => return Err(NativeError::NotReady(fault.into_text())),
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn api(&self) -> Result<ApiConnection, NativeError> {
        let access = kubeconfig::read(&self.folder().kubeconfig())?;
        answered(ApiConnection::open(&access)).await
    }
}

async fn answered<T>(
    asked: impl Future<Output = Result<T, KubeApiError>>,
) -> Result<T, NativeError> {
    match timeout(ANSWERED_WITHIN, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(NativeError::NotReady(format!(
            "its API server did not answer within {} s",
            ANSWERED_WITHIN.as_secs()
        ))),
    }
}

/// What is wrong; none if the Service has the port and a pod is ready.
async fn fault(
    api: &mut ApiConnection,
    node_port: u16,
) -> Result<Option<IngressFault>, KubeApiError> {
    let service = api.object(SERVICE).await?;
    if let Some(why) = service_difference(service.as_ref(), node_port) {
        return Ok(Some(IngressFault::Objects(why)));
    }
    let pods = api.object(PODS).await?.unwrap_or_default();
    Ok(pods_fault(&pods))
}

async fn apply(api: &mut ApiConnection, node_port: u16) -> Result<(), KubeApiError> {
    for (path, object) in objects(node_port) {
        api.apply(path, &object).await?;
    }
    if api.object(OF_K3S).await?.is_none() {
        api.apply(CLASS, &ingress_class()).await?;
    }
    Ok(())
}

fn service_difference(service: Option<&Value>, node_port: u16) -> Option<String> {
    let Some(service) = service else {
        return Some("there is no Service traefik".to_owned());
    };
    let ports = service["spec"]["ports"].as_array();
    let of_web = ports.into_iter().flatten().find(|port| port["port"] == 80);
    match of_web.and_then(|port| port["nodePort"].as_u64()) {
        Some(port) if port == u64::from(node_port) => None,
        Some(port) => Some(format!(
            "the Service traefik has the node port {port}, not {node_port}"
        )),
        None => Some("the Service traefik has no node port".to_owned()),
    }
}

fn pods_fault(pods: &Value) -> Option<IngressFault> {
    let live = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    let items = pods["items"].as_array();
    let pods: Vec<&Value> = items.into_iter().flatten().filter(live).collect();
    let is_ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
    };
    if pods.iter().any(is_ready) {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let waiting = pods.iter().find_map(|pod| {
        let containers = pod["status"]["containerStatuses"].as_array();
        let mut containers = containers.into_iter().flatten();
        containers.find_map(|one| one["state"].get("waiting"))
    });
    Some(match waiting {
        Some(waiting) => {
            let (reason, message) = (text(&waiting["reason"]), text(&waiting["message"]));
            let why = format!("Traefik's pod waits: {reason}: {message}");
            let why: String = why.trim_end_matches(": ").chars().take(300).collect();
            match HOPELESS.contains(&reason.as_str()) {
                true => IngressFault::Stuck(why),
                false => IngressFault::Starting(why),
            }
        }
        None if pods.is_empty() => IngressFault::Starting("Traefik has no pod".to_owned()),
        None => IngressFault::Starting("no pod of Traefik is ready".to_owned()),
    })
}

/// The objects in the order in which they need each other, each with its path.
fn objects(node_port: u16) -> Vec<(&'static str, Value)> {
    let of_namespace = json!({"name": "traefik", "namespace": "traefik"});
    let labels = json!({"app": "traefik"});
    let rbac = "rbac.authorization.k8s.io";
    vec![
        (
            "/api/v1/namespaces/traefik",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "traefik"}}),
        ),
        (
            "/api/v1/namespaces/traefik/serviceaccounts/traefik",
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": of_namespace}),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/traefik",
            json!({
                "apiVersion": format!("{rbac}/v1"),
                "kind": "ClusterRole",
                "metadata": {"name": "traefik"},
                "rules": [
                    {"apiGroups": [""], "resources": ["services", "endpoints", "secrets"],
                     "verbs": ["get", "list", "watch"]},
                    {"apiGroups": ["extensions", "networking.k8s.io"],
                     "resources": ["ingresses", "ingressclasses"],
                     "verbs": ["get", "list", "watch"]},
                    {"apiGroups": ["extensions", "networking.k8s.io"],
                     "resources": ["ingresses/status"], "verbs": ["update"]},
                ],
            }),
        ),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/traefik",
            json!({
                "apiVersion": format!("{rbac}/v1"),
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "traefik"},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "traefik"},
                "subjects": [
                    {"kind": "ServiceAccount", "name": "traefik", "namespace": "traefik"},
                ],
            }),
        ),
        (
            "/apis/apps/v1/namespaces/traefik/deployments/traefik",
            json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "traefik", "namespace": "traefik", "labels": labels},
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": pod()},
                },
            }),
        ),
        (
            SERVICE,
            json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": of_namespace,
                "spec": {
                    "type": "NodePort",
                    "selector": labels,
                    "ports": [{"name": "web", "port": 80, "targetPort": 80, "protocol": "TCP",
                               "nodePort": node_port}],
                },
            }),
        ),
    ]
}

fn pod() -> Value {
    json!({
        "serviceAccountName": "traefik",
        "containers": [{
            "name": "traefik",
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "args": ["--api.insecure=true", "--providers.kubernetesingress",
                     "--entrypoints.web.address=:80", "--log.level=INFO"],
            "ports": [
                {"name": "web", "containerPort": 80, "protocol": "TCP"},
                {"name": "admin", "containerPort": 8080, "protocol": "TCP"},
            ],
            "resources": {
                "requests": {"cpu": "100m", "memory": "128Mi"},
                "limits": {"cpu": "500m", "memory": "256Mi"},
            },
        }],
    })
}

fn ingress_class() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {
            "name": "traefik",
            "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"},
        },
        "spec": {"controller": "traefik.io/ingress-controller"},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_must_have_the_node_port_of_the_row() {
        let service = |port: u16| json!({"spec": {"ports": [{"port": 80, "nodePort": port}]}});
        assert_eq!(service_difference(Some(&service(30080)), 30080), None);
        for (service, why) in [
            (None, "there is no Service traefik"),
            (
                Some(service(31234)),
                "the Service traefik has the node port 31234, not 30080",
            ),
            (
                Some(json!({"spec": {"ports": [{"port": 80}]}})),
                "the Service traefik has no node port",
            ),
        ] {
            let difference = service_difference(service.as_ref(), 30080);
            assert_eq!(difference.as_deref(), Some(why));
        }
    }

    #[test]
    fn a_pod_without_its_image_is_not_waited_for() {
        let ready = |ready: &str| json!({"conditions": [{"type": "Ready", "status": ready}]});
        let pods = |status: Value| json!({"items": [{"metadata": {}, "status": status}]});
        let waits = |reason: &str| {
            let waiting = json!({"waiting": {"reason": reason, "message": "no such host"}});
            pods(json!({"containerStatuses": [{"state": waiting}]}))
        };
        assert_eq!(pods_fault(&pods(ready("True"))), None);
        let starting = |why: &str| Some(IngressFault::Starting(why.to_owned()));
        assert_eq!(
            pods_fault(&pods(ready("False"))),
            starting("no pod of Traefik is ready")
        );
        assert_eq!(
            pods_fault(&waits("ContainerCreating")),
            starting("Traefik's pod waits: ContainerCreating: no such host")
        );
        assert_eq!(
            pods_fault(&waits("ImagePullBackOff")),
            Some(IngressFault::Stuck(
                "Traefik's pod waits: ImagePullBackOff: no such host".to_owned()
            ))
        );
        let mut gone = pods(ready("True"));
        gone["items"][0]["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(pods_fault(&gone), starting("Traefik has no pod"));
    }
}
