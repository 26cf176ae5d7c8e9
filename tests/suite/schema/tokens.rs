//! Tokens in the database: only hashes are stored, only the owner creates them, and a
//! session ends with its token.

use kindler::access::{Scope, Secret, TokenName};
use kindler::core::database::Database as Url;
use kindler::store::{CredentialState, LiveGrants, Store};
use tokio_postgres::Client;

use super::migrated;
use crate::kit::{Database, Sql};

const ROLES: &str = include_str!("../../../sql/roles.sql");

async fn store_as(database: &Database, admin: &Client, role: &str) -> Store {
    admin.run(ROLES).await;
    admin.run(ROLES).await;
    let user = format!("{role}_{}", database.name());
    admin
        .run(&format!("CREATE ROLE \"{user}\" LOGIN IN ROLE {role}"))
        .await;
    Store::new(&Url::parse(&database.url_as(&user)).unwrap(), 2, "test")
}

fn owner(database: &Database) -> Store {
    Store::new(&Url::parse(&database.url()).unwrap(), 2, "owner@here")
}

fn name(text: &str) -> TokenName {
    TokenName::parse(text).unwrap()
}

#[tokio::test]
async fn the_api_reads_tokens_and_cannot_create_them() {
    let (database, admin) = migrated().await;
    let owner = owner(&database);
    let api = store_as(&database, &admin, "kindler_api").await;
    let (token, cookie) = (Secret::token([1; 32]), Secret::session([2; 32]));
    let made = owner
        .create_token(&name("ci"), &token.fingerprint(), Scope::Write, None)
        .await
        .unwrap()
        .expect("it is new");
    assert_eq!(
        (&*made.created_by, &*made.state, made.last_used_at),
        ("owner@here", "live", None)
    );

    let bearer = api.bearer(&token.fingerprint()).await.unwrap().unwrap();
    assert_eq!((&*bearer.name, bearer.scope), ("ci", Scope::Write));
    assert_eq!(bearer.state, CredentialState::Live);
    assert!(bearer.use_unrecorded);
    api.record_token_use(bearer.token).await.unwrap();
    let used = "SELECT xmin::text FROM kindler_tokens WHERE last_used_at IS NOT NULL";
    let first = admin.text(used).await;
    api.record_token_use(bearer.token).await.unwrap();
    assert_eq!(admin.text(used).await, first, "once a minute");
    let again = api.bearer(&token.fingerprint()).await.unwrap().unwrap();
    assert!(!again.use_unrecorded);
    assert!(
        api.open_session(bearer.token, &cookie.fingerprint(), 60.0, 2)
            .await
            .unwrap()
    );
    let session = api.session(&cookie.fingerprint()).await.unwrap().unwrap();
    assert_eq!((session.token, &*session.name), (bearer.token, "ci"));
    assert_eq!(
        api.bearer(&cookie.fingerprint()).await.unwrap(),
        None,
        "a cookie is no token"
    );
    assert_eq!(api.tokens().await.unwrap().len(), 1);
    assert!(api.has_live_token().await.unwrap());

    let client = database
        .connect_as(&format!("kindler_api_{}", database.name()))
        .await;
    for forbidden in [
        "INSERT INTO kindler_tokens (name, hash, scope) VALUES ('x', sha256('x'), 'admin')",
        "UPDATE kindler_tokens SET scope = 'admin'",
        "UPDATE kindler_tokens SET revoked_at = NULL",
        "UPDATE kindler_tokens SET expires_at = NULL",
        "UPDATE kindler_tokens SET hash = sha256('x')",
        "DELETE FROM kindler_tokens",
        "UPDATE kindler_sessions SET expires_at = '9999-01-01'",
    ] {
        let message = client.refused(forbidden).await;
        assert!(message.contains("denied"), "{forbidden}: {message}");
    }
}

#[tokio::test]
async fn the_daemon_creates_no_session_and_a_reader_sees_no_hash() {
    let (database, admin) = migrated().await;
    let token = Secret::token([1; 32]).fingerprint();
    owner(&database)
        .create_token(&name("ci"), &token, Scope::Read, None)
        .await
        .unwrap();
    let daemon = store_as(&database, &admin, "kindler_daemon").await;
    let bearer = daemon.bearer(&token).await.unwrap().unwrap();
    let cookie = Secret::session([2; 32]).fingerprint();
    let message = daemon
        .open_session(bearer.token, &cookie, 60.0, 9)
        .await
        .unwrap_err()
        .to_string();
    assert!(message.contains("denied"), "{message}");
    let reader = store_as(&database, &admin, "kindler_reader").await;
    let message = reader.bearer(&token).await.unwrap_err().to_string();
    assert!(message.contains("denied"), "{message}");
}

#[tokio::test]
async fn expired_and_revoked_tokens_end_their_sessions() {
    let (database, admin) = migrated().await;
    let store = owner(&database);
    let secret = |n: u8| Secret::token([n; 32]).fingerprint();
    for (n, token) in [(1, "stays"), (2, "ends"), (3, "gone")] {
        store
            .create_token(&name(token), &secret(n), Scope::Read, Some(3600.0))
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(
        store
            .create_token(&name("gone"), &secret(4), Scope::Admin, None)
            .await
            .unwrap(),
        None,
        "the name is taken"
    );
    let cookie = |n: u8| Secret::session([n; 32]).fingerprint();
    let mut asked = LiveGrants::default();
    for n in 1..=3 {
        let bearer = store.bearer(&secret(n)).await.unwrap().unwrap();
        assert!(
            store
                .open_session(bearer.token, &cookie(n), 60.0, 9)
                .await
                .unwrap()
        );
        asked.tokens.push(bearer.token);
        asked.sessions.push(cookie(n).as_bytes().to_vec());
    }
    let live = store.live_grants(&asked).await.unwrap();
    assert_eq!((live.tokens.len(), live.sessions.len()), (3, 3));

    let revoked = store.revoke_token(&name("gone")).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_by.as_deref(), Some("owner@here"));
    assert_eq!(store.revoke_token(&name("gone")).await.unwrap(), None);
    admin
        .run("UPDATE kindler_tokens SET expires_at = now() WHERE name = 'ends'")
        .await;
    let state = async |n| store.bearer(&secret(n)).await.unwrap().unwrap().state;
    assert_eq!(state(1).await, CredentialState::Live);
    assert_eq!(state(2).await, CredentialState::Expired);
    assert_eq!(state(3).await, CredentialState::Revoked);
    assert_eq!(store.session(&cookie(3)).await.unwrap(), None);
    let ended = store.session(&cookie(2)).await.unwrap().unwrap();
    assert_eq!(ended.state, CredentialState::Expired);
    let live = store.live_grants(&asked).await.unwrap();
    assert_eq!(live.tokens, asked.tokens[..1]);
    assert_eq!(live.sessions, asked.sessions[..1]);
    assert!(
        !store
            .open_session(asked.tokens[2], &cookie(9), 60.0, 9)
            .await
            .unwrap()
    );

    // The name is free again, and the old token stays revoked.
    store
        .create_token(&name("gone"), &secret(5), Scope::Read, None)
        .await
        .unwrap()
        .expect("free again");
    assert_eq!(state(3).await, CredentialState::Revoked);
}

#[tokio::test]
async fn sessions_of_a_token_are_limited_and_expired_ones_deleted() {
    let (database, admin) = migrated().await;
    let store = owner(&database);
    let token = Secret::token([1; 32]).fingerprint();
    store
        .create_token(&name("ci"), &token, Scope::Read, Some(3600.0))
        .await
        .unwrap();
    let bearer = store.bearer(&token).await.unwrap().unwrap();
    for n in 0..5 {
        let cookie = Secret::session([n; 32]).fingerprint();
        let begun = store.open_session(bearer.token, &cookie, 1e9, 3).await;
        assert!(begun.unwrap());
    }
    let left = "SELECT count(*) FROM kindler_sessions";
    assert_eq!(admin.number(left).await, 3);
    let newest = Secret::session([4; 32]).fingerprint();
    assert!(store.session(&newest).await.unwrap().is_some());
    let bounded = "SELECT count(*) FROM kindler_sessions s JOIN kindler_tokens t ON t.id = token_id WHERE s.expires_at = t.expires_at";
    assert_eq!(
        admin.number(bounded).await,
        3,
        "no login outlives its token"
    );
    admin
        .run("UPDATE kindler_sessions SET expires_at = now()")
        .await;
    store
        .open_session(
            bearer.token,
            &Secret::session([9; 32]).fingerprint(),
            9.0,
            3,
        )
        .await
        .unwrap();
    assert_eq!(admin.number(left).await, 1);
}
