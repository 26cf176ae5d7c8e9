//! Images of the host in the nodes, as the nodes list them.

use super::rig::{NativeRig, docker};

const PRELOADED: &str = "docker.io/library/kindler-preload:1";

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn images_of_the_host_are_copied_into_the_nodes() {
    for (name, provider) in [("img-k3d", "k3d"), ("img-kind", "kind")] {
        let rig = NativeRig::new(name).await;
        let _daemon = rig.start().await;
        rig.declare(provider).await;
        rig.wait_running().await;
        rig.wait_step("images", "done").await;
        let node = match provider {
            "k3d" => rig.server(),
            _ => format!("{name}-control-plane"),
        };
        assert_eq!(rig.shell(&node, "cat /images"), PRELOADED, "{provider}");
        // What a node lost comes again.
        rig.shell(&node, "rm /images");
        rig.check().await;
        crate::kit::eventually(crate::kit::TIMEOUT, "the image again", || async {
            rig.shell(&node, "cat /images") == PRELOADED
        })
        .await;
        rig.desire("absent").await;
        rig.wait_removed().await;
    }
}

#[tokio::test]
#[ignore = "needs a container engine: make test-engine"]
async fn a_missing_image_is_named_and_the_cluster_runs() {
    let rig = NativeRig::new("img-missing").await;
    let _daemon = rig
        .builder()
        .set("KINDLER_IMAGES", "kindler-preload:1,kindler-missing:7")
        .start()
        .await;
    rig.declare("k3d").await;
    rig.wait_shown("step images failed:").await;
    let message = rig.wait_step("images", "failed").await;
    assert!(
        message.contains("have kindler-missing:7: docker pull kindler-missing:7"),
        "{message}"
    );
    // What is here is copied all the same.
    assert_eq!(rig.shell(&rig.server(), "cat /images"), PRELOADED);
    docker(&["tag", "kindler-preload:1", "kindler-missing:7"]);
    rig.check().await;
    rig.wait_step("images", "done").await;
    rig.wait_shown("running | ").await;
    docker(&["rmi", "kindler-missing:7"]);
    rig.desire("absent").await;
    rig.wait_removed().await;
}
