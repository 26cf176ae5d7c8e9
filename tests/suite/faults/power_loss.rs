//! The host of a replica loses its power: its processes are gone, and its connections stay
//! open on the server, because nothing closes them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use kindler::core::database::{Connections, Database as Url};
use kindler::store::migrate;

use super::{converged, quick, report, rounds, spread};
use crate::kit::{Database, Host, OtherHost, PrivateServer, Sql, TIMEOUT, eventually, migrated};

/// Makes each beginning of a deletion on the other host slow, so that the power is lost
/// while its transaction holds the lock of the cap.
const SLOW: &str = "
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF inet_client_addr() IS NOT NULL THEN
            PERFORM pg_sleep(0.7);
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER a_slow BEFORE INSERT ON cluster_deletions FOR EACH ROW EXECUTE FUNCTION slow()";

/// A session that is being opened has no settings yet, and may stay: it holds nothing.
const BEGINS_ONE: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE client_addr IS NOT NULL AND wait_event = 'PgSleep' AND NOT EXISTS (
        SELECT FROM pg_stat_activity
        WHERE client_addr IS NOT NULL AND backend_start > clock_timestamp() - interval '0.2 s')";

/// The sessions of the other host.
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE client_addr IS NOT NULL";

const LEASE: &str = "3s";

/// The lease, and the promised 5 s.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(8);

/// When the server has closed the sessions of the other host.
const CLOSED_WITHIN: Duration = Duration::from_secs(30);

/// The clusters whose delete has begun at least once.
fn deletes(host: &Host) -> usize {
    let journal = host.journal();
    let begun = journal
        .iter()
        .filter(|entry| entry.what == "start" && entry.verb == "delete");
    begun
        .map(|entry| entry.name.as_str())
        .collect::<HashSet<_>>()
        .len()
}

#[tokio::test]
async fn a_power_loss_delays_no_deletion_of_the_others() {
    let (mut delays, mut closed) = (Vec::new(), Vec::new());
    for _ in 0..rounds(1, 10) {
        let Some(other) = OtherHost::create() else {
            return;
        };
        let (delay, close) = lose_power(&other).await;
        delays.push(delay);
        closed.push(close);
    }
    report(
        "power loss of one replica during a deletion",
        &format!(
            "all deletions begun {}; its sessions closed {}",
            spread(delays),
            spread(closed)
        ),
    );
}

/// Returns how long after the power loss all deletions had begun, and when the server had
/// closed the dead sessions.
async fn lose_power(other: &OtherHost) -> (Duration, Duration) {
    const CLUSTERS: usize = 8;
    let server = PrivateServer::create_on(other.address_of_this_machine()).await;
    let (database, host) = (server.database().await.migrate().await, Host::new());
    let sql = database.connect().await;
    sql.run(SLOW).await;
    host.control("delete", "sleep 0.2");
    let here = quick(&database.url(), &host)
        .set("KINDLER_LEASE_TTL", LEASE)
        .start()
        .await;
    let there = quick(&network_url(&database, other), &host)
        .set("KINDLER_LEASE_TTL", LEASE)
        .in_network(other)
        .spawn();
    sql.wait_number("SELECT count(*) FROM kindler_replicas", 2)
        .await;
    sql.declare_many("c", CLUSTERS).await;
    converged(&sql, &host).await;
    sql.run("UPDATE clusters SET desired_state = 'absent'")
        .await;
    eventually(TIMEOUT, "a deletion that begins there", || async {
        sql.number(BEGINS_ONE).await > 0
    })
    .await;
    other.cut_off();
    let lost = Instant::now();
    there.kill();
    assert!(sql.number(SESSIONS).await > 0);
    eventually(TIMEOUT, "the beginning of every deletion", || async {
        deletes(&host) == CLUSTERS
    })
    .await;
    let delay = lost.elapsed();
    eventually(
        Duration::from_secs(60),
        "the end of the dead sessions",
        || async { sql.number(SESSIONS).await == 0 },
    )
    .await;
    let closed = lost.elapsed();
    assert!(
        delay < TAKEN_OVER_WITHIN,
        "the deletions stalled for {delay:?}"
    );
    assert!(
        closed < CLOSED_WITHIN,
        "dead sessions stayed for {closed:?}"
    );
    sql.wait_number("SELECT count(*) FROM clusters", 0).await;
    converged(&sql, &host).await;
    here.stop().await;
    (delay, closed)
}

/// The URL of the superuser over the network.
fn network_url(database: &Database, other: &OtherHost) -> String {
    format!(
        "postgresql://postgres@{}/{}",
        other.address_of_this_machine(),
        database.name()
    )
}

/// A migration holds locks that block everybody, so it must not outlive its host either.
const RECORD_LIMIT: &str = "
    CREATE TABLE limits (what text);
    CREATE FUNCTION record_limit() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.limits VALUES (current_setting('idle_in_transaction_session_timeout'));
    END $$;
    CREATE EVENT TRIGGER a_record ON ddl_command_start EXECUTE FUNCTION record_limit()";

#[tokio::test]
async fn every_session_has_limits_for_a_dead_client() {
    let Some(other) = OtherHost::create() else {
        return;
    };
    let server = PrivateServer::create_on(other.address_of_this_machine()).await;
    let database = server.database().await;
    let sql = database.connect().await;
    sql.run(RECORD_LIMIT).await;
    let url = Url::parse(&network_url(&database, &other)).unwrap();
    migrate(&url).await.unwrap();
    let limits = "SELECT string_agg(DISTINCT what, ', ') FROM limits";
    assert_eq!(sql.text(limits).await, "2s");

    let pool = Connections::new(&url, 1, "a test");
    let settings = "SELECT name || '=' || setting FROM pg_settings WHERE name IN
        ('idle_in_transaction_session_timeout', 'tcp_keepalives_idle', 'tcp_user_timeout') ORDER BY name";
    let rows = pool.rows("read settings", settings, &[]).await.unwrap();
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        found,
        [
            "idle_in_transaction_session_timeout=2000",
            "tcp_keepalives_idle=10",
            "tcp_user_timeout=20000"
        ]
    );
}

/// Behind a pooler in transaction mode a session may have none of its settings.
#[tokio::test]
async fn no_lock_is_waited_for_without_a_limit() {
    let database = migrated().await;
    let (holder, waiter) = (database.connect().await, database.connect().await);
    for name in ["declares", "deletes"] {
        let lock = format!(
            "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('kindler {name} ' || current_schema(), 0))"
        );
        holder.run(&lock).await;
        let statement = match name {
            "declares" => include_str!("../../../sql/queries/lock_declarations.sql"),
            _ => include_str!("../../../sql/queries/lock_deletions.sql"),
        };
        let waits = tokio::time::timeout(TIMEOUT, waiter.query(statement, &[]));
        let ended = waits.await.expect("the wait has a limit");
        assert_eq!(ended.is_err(), name == "declares", "{ended:?}");
        holder.run("ROLLBACK").await;
        // The holder of the lock is not waited for without a limit either.
        waiter.run("BEGIN").await;
        waiter.query(statement, &[]).await.unwrap();
        let idle = waiter
            .text("SHOW idle_in_transaction_session_timeout")
            .await;
        assert_eq!(idle, "2s");
        waiter.run("ROLLBACK").await;
    }
}
