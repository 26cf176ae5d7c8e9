//! Fields that got a plainer name keep their old one, which is marked as deprecated.

use serde_json::Value;

use super::quiet_site;

#[tokio::test]
async fn fields_with_a_new_name_keep_the_old_one() {
    let site = quiet_site().await;
    site.declare("dev").await;
    site.sql
        .batch_execute(
            "UPDATE clusters SET placed_by = 'host=a', status_reason = 'DeletionHeld',
                    desired_state = 'absent' WHERE name = 'dev';
             INSERT INTO kindler_replicas (owner, host, pid, version, listening, aside)
             VALUES ('old', 'h', 1, '0.0.1', true, true)",
        )
        .await
        .unwrap();

    let cluster = site.http.get("/api/clusters/dev").await.is(200).json();
    let why = cluster["placement_mismatch"].as_str().expect("a sentence");
    assert!(why.contains("host=a"), "{why}");
    assert_eq!(cluster["strays"], cluster["placement_mismatch"]);

    let status = site.http.get("/api/status").await.is(200).json();
    assert_eq!(status["deferred"][0]["reason"], "DeletionHeld", "{status}");
    assert_eq!(status["waiting"], status["deferred"]);
    let replicas = status["replicas"].as_array().unwrap();
    let old = replicas.iter().find(|one| one["replica"]["owner"] == "old");
    let old = &old.expect("the replica")["replica"];
    assert_eq!(old["standby"], true, "{old}");
    assert_eq!(old["aside"], old["standby"]);
    assert_eq!(status["listener"]["notifications"], "received", "{status}");
    assert_eq!(status["listener"]["state"], "listening");
}

#[tokio::test]
async fn openapi_marks_old_names_as_deprecated() {
    let site = quiet_site().await;
    let document = site.http.get("/openapi.json").await.is(200).json();
    let cluster = &document["components"]["schemas"]["View"]["properties"];
    assert_eq!(
        cluster["strays"]["deprecated"], true,
        "{}",
        cluster["strays"]
    );
    assert_eq!(
        cluster["placement_mismatch"].get("deprecated"),
        None::<&Value>
    );
}
