//! A pooler in transaction mode: the daemon, the page and a person share the sessions of
//! the server. What the daemon sets must end with its transaction.

use std::time::{Duration, Instant};

use kindler::core::database::Database as Url;
use kindler::store::Store;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{converged, report, rounds};
use crate::kit::{Daemon, Database, Host, Pooler, Sql, TIMEOUT, eventually, migrated};

/// Settings of a session that a person notices.
const SETTINGS: [&str; 5] = [
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "default_transaction_isolation",
    "kindler.actor",
];

/// A person's client of the pooler. It uses simple statements, which work in any session.
struct Person(Client);

impl Person {
    async fn connect(pooler: &Pooler) -> Self {
        let (client, connection) = tokio_postgres::connect(&pooler.url(), tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        Self(client)
    }

    /// The first value of the last row; empty for null and for none.
    async fn text(&self, statement: &str) -> String {
        let answer = self.0.simple_query(statement).await;
        let answer = answer.unwrap_or_else(|error| panic!("{error:?} in {statement}"));
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        rows.last().unwrap_or_default()
    }
}

/// What a person sees of the session that is assigned now: process, settings, listening.
fn seen() -> String {
    let settings = SETTINGS
        .iter()
        .map(|name| format!("'{name}=' || coalesce(current_setting('{name}', true), '')"));
    let settings: Vec<_> = settings.collect();
    format!(
        "SELECT concat_ws(' ', {}, 'listens=' || (SELECT count(*) FROM pg_listening_channels()))",
        settings.join(", ")
    )
}

/// What people see in every session of the server that the pooler has: each holds one.
async fn in_every_session(pooler: &Pooler, database: &Database) -> Vec<String> {
    let open: i64 = database
        .value(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    let (mut people, mut found) = (Vec::new(), Vec::new());
    for _ in 0..open {
        let person = Person::connect(pooler).await;
        found.push(person.text(&format!("BEGIN; {}", seen())).await);
        people.push(person);
    }
    for person in people {
        person.text("ROLLBACK").await;
    }
    found
}

const UNTOUCHED: &str = "statement_timeout=0 lock_timeout=0 idle_in_transaction_session_timeout=0 \
                         default_transaction_isolation=read committed kindler.actor= listens=0";

#[tokio::test]
async fn nothing_of_the_daemon_stays_in_shared_sessions() {
    let (database, host) = (migrated().await, Host::new());
    let pooler = Pooler::start(&database, "transaction").await;
    let daemon = Daemon::builder(&pooler.url(), &host)
        .set("KINDLER_RESYNC_INTERVAL", "1s")
        .start()
        .await;
    let person = Person::connect(&pooler).await;
    // Longer than any limit of the daemon, while it works in the same pool.
    let patient = Person::connect(&pooler).await;
    let slow =
        tokio::spawn(async move { patient.text("SELECT pg_sleep(7)::text || 'done'").await });
    let sql = database.connect().await;
    sql.declare_many("c", 8).await;
    let running = "SELECT count(*) FROM clusters WHERE actual_state = 'running'";
    let mut changes = 0;
    let began = Instant::now();
    let long = Duration::from_secs(rounds(8, 120).try_into().unwrap());
    while changes < 24 || began.elapsed() < long {
        let port = 23_000 + changes;
        let change = format!("UPDATE clusters SET http_port = {port} WHERE name = 'c1'");
        person.text(&change).await;
        changes += 1;
        let (status, body) = daemon.get("/api/clusters").await.expect("an answer");
        assert_eq!(status, 200, "{body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(slow.await.unwrap(), "done");
    sql.wait_number(running, 8).await;
    eventually(TIMEOUT, "the last change applied", || async {
        let applied = "SELECT count(*) FROM clusters WHERE observed_spec_hash = spec_hash";
        sql.number(applied).await == 8
    })
    .await;

    // Who did what, in the audit log.
    let role = sql.text("SELECT current_user::text").await;
    let declared = "SELECT count(*) FROM cluster_events WHERE kind = 'changed' AND actor";
    assert_eq!(
        sql.number(&format!("{declared} = '{role}'")).await,
        i64::from(changes)
    );
    assert_eq!(sql.number(&format!("{declared} <> '{role}'")).await, 0);
    let worked = "SELECT string_agg(DISTINCT split_part(actor, '@', 1), ' ') FROM cluster_events
                  WHERE kind IN ('transition', 'attempt')";
    assert_eq!(sql.text(worked).await, "kindler");

    let sessions = in_every_session(&pooler, &database).await;
    assert!(sessions.len() > 1, "{sessions:#?}");
    for session in &sessions {
        assert_eq!(session, UNTOUCHED, "{sessions:#?}");
    }
    converged(&sql, &host).await;
    report(
        "sessions shared with a person",
        &format!(
            "{changes} changes under the person's name, {} sessions untouched",
            sessions.len()
        ),
    );
}

#[tokio::test]
async fn limits_and_actor_hold_in_shared_sessions() {
    let database = migrated().await;
    let pooler = Pooler::start(&database, "transaction").await;
    let name = database.name();
    let default =
        format!("ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'");
    database.connect().await.run(&default).await;
    let (sql, holder) = (database.connect().await, database.connect().await);
    sql.run(
        "INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d'), ('free', 'k3d');
         CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(8); RETURN NEW; END $$;
         CREATE TRIGGER slowly BEFORE UPDATE ON clusters FOR EACH ROW
             WHEN (OLD.labels ? 'slow') EXECUTE FUNCTION slowly()",
    )
    .await;
    let store = Store::new(&Url::parse(&pooler.url()).unwrap(), 2, "ada@home");
    let (dev, free) = ("dev".parse().unwrap(), "free".parse().unwrap());

    // Another writer commits while it waits: READ COMMITTED lets it continue.
    holder
        .run("BEGIN; UPDATE clusters SET http_port = 18099 WHERE name = 'dev'")
        .await;
    let (pausing, committing) = tokio::join!(store.set_paused(&dev, true, None), async {
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        sql.wait_number(waits, 1).await;
        holder.run("COMMIT").await;
    });
    let (paused, ()) = (pausing.unwrap().unwrap(), committing);
    assert!(paused.paused && paused.spec.http_port.get() == 18099);

    // A lock is waited for 3 s, a statement runs for 5 s.
    holder
        .run("BEGIN; SELECT FROM clusters WHERE name = 'dev' FOR UPDATE")
        .await;
    let began = Instant::now();
    let error = store.set_paused(&dev, false, None).await.unwrap_err();
    let waited = began.elapsed();
    assert!(
        waited < Duration::from_millis(4500),
        "{waited:?}: {error:?}"
    );
    holder.run("ROLLBACK").await;
    sql.run("UPDATE clusters SET labels = '{\"slow\": \"1\"}' WHERE name = 'free'")
        .await;
    let began = Instant::now();
    store.set_paused(&free, true, None).await.unwrap_err();
    assert!(
        began.elapsed() < Duration::from_secs(7),
        "{:?}",
        began.elapsed()
    );
    eventually(TIMEOUT, "the end of the slow statement", || async {
        let slow = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event = 'PgSleep'";
        sql.number(slow).await == 0
    })
    .await;
    assert_eq!(
        sql.text("SELECT paused::text FROM clusters WHERE name = 'free'")
            .await,
        "false"
    );
    assert_eq!(
        sql.text("SELECT string_agg(actor, ' ') FROM cluster_events WHERE kind = 'paused'")
            .await,
        "ada@home"
    );
    for session in in_every_session(&pooler, &database).await {
        let untouched = UNTOUCHED.replace("read committed", "repeatable read");
        assert_eq!(session, untouched);
    }
}
