//! `kindler token`: a token is shown once and stored as a hash.

use super::rig::Fleet;
use crate::kit::Sql;

#[tokio::test]
async fn a_token_is_printed_once_and_stored_as_a_hash() {
    let fleet = Fleet::new().await;
    let created = fleet
        .run(&[
            "token",
            "create",
            "ci",
            "--scope",
            "write",
            "--expires",
            "30d",
        ])
        .await
        .exits(0)
        .stderr_has("token ci, scope write, expires ");
    let token = created.out.strip_suffix('\n').expect("one line");
    assert!(token.starts_with("kdl_") && token.len() == 47, "{token}");
    assert!(!created.err.contains(token), "only on stdout");
    let other = fleet
        .run(&["token", "create", "alice", "--scope", "admin"])
        .await
        .exits(0);
    assert_ne!(other.out, created.out);

    let kept = "SELECT string_agg(t::text, ' ') FROM kindler_tokens t";
    let kept = fleet.database.text(kept).await;
    assert!(!kept.contains(&token[4..]), "{kept}");
    let hash = "SELECT encode(hash, 'hex') FROM kindler_tokens WHERE name = 'ci'";
    let hash = fleet.database.text(hash).await;
    for output in ["table", "wide", "json"] {
        let shown = fleet.run(&["token", "list", "-o", output]).await.exits(0);
        for secret in [&token[4..], &hash, "hash"] {
            assert!(!shown.out.contains(secret), "{}", shown.out);
        }
        assert!(shown.out.contains("ci") && shown.out.contains("alice"));
    }
    let listed = fleet.run(&["token", "list", "-o", "json"]).await.json();
    let names: Vec<_> = listed.as_array().unwrap().iter().collect();
    assert_eq!(names[0]["name"], "alice");
    assert_eq!(names[0]["expires_at"], serde_json::Value::Null);
    assert_eq!(names[1]["scope"], "write");
    let by = names[1]["created_by"].as_str().unwrap();
    assert!(by.starts_with("tester@"), "{by}");
}

#[tokio::test]
async fn a_revoked_token_is_listed_and_frees_its_name() {
    let fleet = Fleet::new().await;
    let create = ["token", "create", "ci", "--scope", "read"];
    fleet.run(&create).await.exits(0);
    fleet
        .run(&create)
        .await
        .exits(2)
        .stderr_has("token ci already exists");
    fleet.run(&["token", "revoke", "ci"]).await.exits(0);
    fleet
        .run(&["token", "revoke", "ci"])
        .await
        .exits(2)
        .stderr_has("kindler token list");
    fleet.run(&create).await.exits(0);
    let listed = fleet.run(&["token", "list"]).await.exits(0).out;
    assert!(
        listed.contains("live") && listed.contains("revoked"),
        "{listed}"
    );
}

#[tokio::test]
async fn errors_name_the_field_and_repeat_no_token() {
    let fleet = Fleet::new().await;
    for (args, message) in [
        (&["create", "CI", "--scope", "read"][..], "lower-case"),
        (&["create", "ci", "--scope", "root"], "read, write"),
        (&["create", "ci"], "--scope"),
        (
            &["create", "ci", "--scope", "read", "--expires", "30"],
            "30s",
        ),
        (
            &["create", "ci", "--scope", "read", "--expires", "5s"],
            "1m to 3650d",
        ),
        (&["create"], "<NAME>"),
    ] {
        let args: Vec<_> = ["token"].iter().chain(args).copied().collect();
        fleet.run(&args).await.exits(2).stderr_has(message);
    }
    let token = "kdl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let result = fleet.run(&["token", "revoke", token]).await.exits(2);
    assert!(!result.err.contains("AAAA"), "{}", result.err);
    let tokens = "SELECT count(*)::text FROM kindler_tokens";
    assert_eq!(fleet.database.text(tokens).await, "0");
}

#[tokio::test]
async fn a_role_that_cannot_create_tokens_gets_a_hint() {
    let fleet = Fleet::new().await;
    let login = format!("page_{}", fleet.database.name());
    fleet
        .database
        .run(include_str!("../../../sql/roles.sql"))
        .await;
    fleet
        .database
        .run(&format!(
            "CREATE ROLE \"{login}\" LOGIN IN ROLE kindler_api"
        ))
        .await;
    let url = fleet.database.url_as(&login);
    let result = fleet
        .home
        .run(&[
            "--database-url",
            &url,
            "token",
            "create",
            "ci",
            "--scope",
            "admin",
        ])
        .await
        .exits(1)
        .stderr_has("owner of the tables")
        // Not taken for a secret.
        .stderr_has(": the database role may not do this: permission denied");
    assert_eq!(result.out, "", "no token that is none");
    let store = fleet.database.store(1);
    assert!(!store.has_live_token().await.unwrap());
}
