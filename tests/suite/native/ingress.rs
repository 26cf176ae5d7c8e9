//! The ingress controller, as the API server has stored it, and the address in the row.

use serde_json::Value;

use super::rig::{NativeRig, docker};
use crate::kit::{Sql, TIMEOUT, eventually};

const OBJECTS: &str = "/www/objects/";
const SERVICE: &str = "api/v1/namespaces/traefik/services/traefik";
const CLASS: &str = "apis/networking.k8s.io/v1/ingressclasses/traefik";
const PODS: &str = "/www/objects/api/v1/namespaces/traefik/pods.json";

/// An object that was applied; null if there is none.
fn stored(rig: &NativeRig, path: &str) -> Value {
    let text = rig.shell(&rig.server(), &format!("cat {OBJECTS}{path}.json"));
    serde_json::from_str(&text).unwrap_or_default()
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn traefik_is_applied_with_the_node_port_of_the_row() {
    let rig = NativeRig::new("ingress").await;
    let _daemon = rig.start().await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    rig.wait_step("ingress", "done").await;
    let service = stored(&rig, SERVICE);
    assert_eq!(service["spec"]["type"], "NodePort");
    assert_eq!(service["spec"]["ports"][0]["nodePort"], 30080);
    for (path, kind) in [
        ("api/v1/namespaces/traefik", "Namespace"),
        (
            "api/v1/namespaces/traefik/serviceaccounts/traefik",
            "ServiceAccount",
        ),
        (
            "apis/rbac.authorization.k8s.io/v1/clusterroles/traefik",
            "ClusterRole",
        ),
        (
            "apis/rbac.authorization.k8s.io/v1/clusterrolebindings/traefik",
            "ClusterRoleBinding",
        ),
        (CLASS, "IngressClass"),
    ] {
        assert_eq!(stored(&rig, path)["kind"], kind);
    }
    let deployment = stored(&rig, "apis/apps/v1/namespaces/traefik/deployments/traefik");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "traefik:v2.10");
    assert_eq!(container["args"][1], "--providers.kubernetesingress");

    // Another port is corrected, as is a changed declaration.
    let edit = format!("sed -i s/30080/31234/ {OBJECTS}{SERVICE}.json");
    rig.shell(&rig.server(), &edit);
    rig.check().await;
    let port = async |wanted: u64| {
        eventually(TIMEOUT, &format!("the node port {wanted}"), || async {
            stored(&rig, SERVICE)["spec"]["ports"][0]["nodePort"] == wanted
        })
        .await;
    };
    port(30080).await;
    rig.database
        .run("UPDATE clusters SET node_port = 30999")
        .await;
    port(30999).await;
    rig.wait_running().await;
    rig.desire("absent").await;
    rig.wait_removed().await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_traefik_that_is_not_ready_is_a_warning() {
    let rig = NativeRig::new("unready").await;
    let _daemon = rig.start().await;
    rig.declare("k3d").await;
    rig.wait_running().await;
    rig.wait_step("ingress", "done").await;
    let pods = |status: &str| {
        let text = format!(
            "cat > {PODS} <<'END'\n{{\"items\":[{{\"metadata\":{{}},\"status\":{status}}}]}}\nEND"
        );
        rig.shell(&rig.server(), &text);
    };
    pods(
        r#"{"containerStatuses":[{"state":{"waiting":{"reason":"ImagePullBackOff","message":
        "Back-off pulling image"}}}]}"#,
    );
    rig.check().await;
    let message = rig.wait_step("ingress", "failed").await;
    assert!(
        message.contains("Traefik's pod waits: ImagePullBackOff: Back-off pulling image"),
        "{message}"
    );
    rig.wait_shown("running | StepFailed | ").await;
    rig.wait_shown("step ingress failed:").await;
    // What the API server says of a rejected object is shown.
    rig.shell(&rig.server(), "echo no room > /www/rejects");
    rig.check().await;
    rig.wait_shown("rejects /api/v1/namespaces/traefik with 403: no room")
        .await;
    rig.shell(&rig.server(), "rm /www/rejects");
    pods(r#"{"conditions":[{"type":"Ready","status":"True"}]}"#);
    rig.check().await;
    rig.wait_step("ingress", "done").await;
    rig.desire("absent").await;
    rig.wait_removed().await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn an_ingress_that_is_switched_off_applies_nothing() {
    let rig = NativeRig::new("no-ingress").await;
    let _daemon = rig.builder().set("KINDLER_INGRESS", "false").start().await;
    rig.declare("kind").await;
    rig.wait_running().await;
    rig.wait_step("ingress", "done").await;
    let list = format!("cat {OBJECTS}{SERVICE}.json || echo none");
    assert_eq!(rig.shell("no-ingress-control-plane", &list), "none");
    rig.desire("absent").await;
    rig.wait_removed().await;
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn the_row_has_the_address_of_the_server_after_each_check() {
    let rig = NativeRig::new("addressed").await;
    let _daemon = rig.start().await;
    rig.declare("kind").await;
    rig.wait_running().await;
    let node = "addressed-control-plane";
    let address = || {
        let format = "{{with index .NetworkSettings.Networks \"kind\"}}{{.IPAddress}}{{end}}";
        docker(&["inspect", "--format", format, node])
    };
    let in_row = async || {
        let row = "SELECT coalesce(server_ip, 'none') FROM clusters WHERE name = 'addressed'";
        rig.database.text(row).await
    };
    let first = address();
    assert!(!first.is_empty());
    eventually(TIMEOUT, "the address in the row", || async {
        in_row().await == first
    })
    .await;
    // Another address, as after a restart of the engine. Other tests free and take some, too.
    let mut others = Vec::new();
    while address() == first {
        docker(&["network", "disconnect", "kind", node]);
        let sleep = ["kindler-stand-in:1", "/bin/sleep", "600"];
        others.push(docker(
            &[&["run", "-d", "--network", "kind"][..], &sleep].concat(),
        ));
        docker(&["network", "connect", "kind", node]);
    }
    let second = address();
    rig.check().await;
    eventually(TIMEOUT, "the new address in the row", || async {
        in_row().await == second
    })
    .await;
    for other in &others {
        docker(&["rm", "-f", other]);
    }
    rig.desire("absent").await;
    rig.wait_removed().await;
}
