//! A database that is there and cannot do it now: 503, with the true reason.

use serde_json::json;

use super::{Site, quiet_site};
use crate::kit::Sql;

async fn declared(site: &Site) -> String {
    let body = json!({ "name": "dev", "provider": "k3d" });
    site.http.post("/api/clusters", body).await.is(503).detail()
}

#[tokio::test]
async fn a_lock_that_is_not_free_is_503_with_the_reason() {
    let site = quiet_site().await;
    site.sql
        .run("BEGIN; LOCK TABLE clusters IN SHARE MODE")
        .await;
    let detail = declared(&site).await;
    assert!(detail.contains("lock timeout"), "{detail}");
    let holder = site.sql.text("SELECT pg_backend_pid()::text").await;
    assert!(
        detail.contains(&format!("blocked by pid {holder} (user ")),
        "{detail}"
    );
    assert!(!detail.contains("cannot be reached"), "{detail}");
    site.sql.run("ROLLBACK").await;
    site.declare("dev").await;
}

#[tokio::test]
async fn a_read_only_server_is_503_and_takes_no_writes() {
    let site = quiet_site().await;
    site.sql
        .run(&format!(
            "ALTER DATABASE {} SET default_transaction_read_only = on;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
            site.database.name()
        ))
        .await;
    let detail = crate::kit::eventually(super::SOON, "a session that is read-only", || async {
        let detail = declared(&site).await;
        detail.contains("takes no writes").then_some(detail)
    })
    .await;
    assert!(!detail.contains("cannot be reached"), "{detail}");
    // Reads work.
    site.http.get("/api/clusters").await.is(200);
}
