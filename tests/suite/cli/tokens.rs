//! `kindler token`: shown once, never again, and nowhere else.

use kindler::core::database::Database as Url;
use kindler::store::Store;

use super::rig::Fleet;

#[tokio::test]
async fn a_token_is_printed_once_and_only_its_hash_is_kept() {
    let fleet = Fleet::new().await;
    let made = fleet
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
        .ends(0)
        .complains("token ci, scope write, expires ");
    let token = made.out.strip_suffix('\n').expect("one line");
    assert!(token.starts_with("kdl_") && token.len() == 47, "{token}");
    assert!(!made.err.contains(token), "only on stdout");
    let other = fleet
        .run(&["token", "create", "alice", "--scope", "admin"])
        .await
        .ends(0);
    assert_ne!(other.out, made.out);

    let kept = "SELECT string_agg(t::text, ' ') FROM kindler_tokens t";
    let kept: String = fleet.database.value(kept).await;
    assert!(!kept.contains(&token[4..]), "{kept}");
    let hash = "SELECT encode(hash, 'hex') FROM kindler_tokens WHERE name = 'ci'";
    let hash: String = fleet.database.value(hash).await;
    for output in ["table", "wide", "json"] {
        let shown = fleet.run(&["token", "list", "-o", output]).await.ends(0);
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
async fn a_revoked_token_is_kept_in_the_list_and_its_name_is_free() {
    let fleet = Fleet::new().await;
    let create = ["token", "create", "ci", "--scope", "read"];
    fleet.run(&create).await.ends(0);
    fleet
        .run(&create)
        .await
        .ends(2)
        .complains("token ci already exists");
    fleet.run(&["token", "revoke", "ci"]).await.ends(0);
    fleet
        .run(&["token", "revoke", "ci"])
        .await
        .ends(2)
        .complains("kindler token list");
    fleet.run(&create).await.ends(0);
    let listed = fleet.run(&["token", "list"]).await.ends(0).out;
    assert!(
        listed.contains("live") && listed.contains("revoked"),
        "{listed}"
    );
}

#[tokio::test]
async fn bad_input_names_field_and_limit_and_repeats_no_token() {
    let fleet = Fleet::new().await;
    for (args, words) in [
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
        fleet.run(&args).await.ends(2).complains(words);
    }
    let token = "kdl_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let said = fleet.run(&["token", "revoke", token]).await.ends(2);
    assert!(!said.err.contains("AAAA"), "{}", said.err);
    let tokens = "SELECT count(*)::text FROM kindler_tokens";
    assert_eq!(fleet.database.value::<String>(tokens).await, "0");
}

#[tokio::test]
async fn a_role_that_may_not_make_tokens_is_told_whose_url_it_takes() {
    let fleet = Fleet::new().await;
    let login = format!("page_{}", fleet.database.name());
    fleet
        .database
        .execute(include_str!("../../../sql/roles.sql"))
        .await;
    fleet
        .database
        .execute(&format!(
            "CREATE ROLE \"{login}\" LOGIN IN ROLE kindler_api"
        ))
        .await;
    let url = fleet.database.url_as(&login);
    let said = fleet
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
        .ends(1)
        .complains("owner of the tables");
    assert_eq!(said.out, "", "no token that is none");
    let store = Store::new(&Url::parse(&fleet.database.url()).unwrap(), 1, "test");
    assert!(!store.has_live_token().await.unwrap());
}
