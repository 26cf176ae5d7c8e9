//! Other sessions, and the daemon's own statements, take too long: a row stays locked,
//! a statement takes effect after its caller gave up, a transaction stays open.

use std::time::{Duration, Instant};

use kindler::core::database::Database as Url;
use kindler::store::{Batch, Declared, Store};
use rustix::process::Signal;
use tokio_postgres::Client;

use super::{converged, quick, report, rounds, spread};
use crate::kit::{Daemon, Host, Proxy, Sql, TIMEOUT, Traffic, eventually, migrated};
use crate::schema::isolation::declaration;

/// Other clusters do not wait for the blocked one: less than any limit of the daemon.
const AT_ONCE: Duration = Duration::from_millis(2500);

fn milliseconds(count: i64) -> Duration {
    Duration::from_millis(count.try_into().unwrap())
}

/// The time from the commit of a new cluster to the start of its command.
async fn begun_after(sql: &Client, host: &Host, name: &str) -> Duration {
    let insert = format!("INSERT INTO clusters (name, provider) VALUES ('{name}', 'k3d')");
    sql.run(&insert).await;
    let declared = Instant::now();
    eventually(
        TIMEOUT,
        "the start of another cluster's command",
        || async { !host.started(name).is_empty() },
    )
    .await;
    declared.elapsed()
}

/// Milliseconds for which a session of the daemon has been waiting for a lock.
const LONGEST_WAIT: &str = "
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - query_start) * 1000), 0)::int8
    FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'kindler' AND wait_event_type = 'Lock'";

/// The deadline of a call, and some slack for a busy machine.
const CALL_LIMIT: Duration = Duration::from_millis(6500);

/// One row is locked while it is due, another while its command runs, so the claim of
/// the first and the status of the second have to wait.
#[tokio::test]
async fn a_locked_row_delays_only_itself() {
    let (database, host) = (migrated().await, Host::new());
    let (sql, holder) = (database.connect().await, database.connect().await);
    host.control(
        "begun.create",
        "while [ ! -e \"$here/live/go\" ]; do sleep 0.05; done",
    );
    sql.run("INSERT INTO clusters (name, provider) VALUES ('due', 'k3d'), ('begun', 'k3d')")
        .await;
    let lock = "SELECT FROM clusters WHERE name =";
    holder.run(&format!("BEGIN; {lock} 'due' FOR UPDATE")).await;
    let mut daemon = quick(&database.url(), &host).start().await;
    host.wait_started("begun", &["create"]).await;
    holder.run(&format!("{lock} 'begun' FOR UPDATE")).await;
    std::fs::write(host.path().join("live/go"), "").unwrap();

    let hold = Duration::from_secs(rounds(9, 120).try_into().unwrap());
    let (locked, mut longest, mut others) = (Instant::now(), 0, Vec::new());
    while locked.elapsed() < hold {
        longest = longest.max(sql.number(LONGEST_WAIT).await);
        let due = hold.mul_f64(others.len() as f64 / 8.0);
        if locked.elapsed() > due {
            let name = format!("other-{}", others.len());
            others.push(begun_after(&sql, &host, &name).await);
            // A lock of another session is not an outage.
            assert_eq!(daemon.get("/readyz").await.unwrap().0, 200);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let longest = milliseconds(longest);
    assert!(longest > Duration::from_secs(1), "no session waited");
    assert!(longest < CALL_LIMIT, "a session waited for {longest:?}");
    let slowest = *others.iter().max().unwrap();
    assert!(slowest < AT_ONCE, "another cluster waited for {slowest:?}");

    // The shutdown is requested while a session waits for the lock.
    eventually(TIMEOUT, "a session that waits", || async {
        sql.number(LONGEST_WAIT).await > 0
    })
    .await;
    let requested = Instant::now();
    daemon.signal(Signal::TERM);
    daemon.ended(TIMEOUT).await;
    let ended = requested.elapsed();

    let _next = quick(&database.url(), &host).spawn();
    begun_after(&sql, &host, "later").await;
    assert!(host.started("due").is_empty(), "{:?}", host.journal());
    holder.run("ROLLBACK").await;
    let unlocked = Instant::now();
    converged(&sql, &host).await;
    assert!(unlocked.elapsed() < TIMEOUT, "{:?}", unlocked.elapsed());
    report(
        "rows locked by another session",
        &format!(
            "for {} s; a session waited at most {:.1} s, others began {}; shut down {:.1} s after TERM, converged {:.1} s after the unlock",
            hold.as_secs(),
            longest.as_secs_f64(),
            spread(others),
            ended.as_secs_f64(),
            unlocked.elapsed().as_secs_f64()
        ),
    );
}

/// Makes the statements that are listed in `stalls` take eight seconds. Such a
/// statement ignores the client's deadline and the server's limit, and then takes
/// effect although its caller gave up.
const STALLS: &str = "
    CREATE TABLE stalls (what text);
    CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        written jsonb := to_jsonb(NEW);
        ends timestamptz := clock_timestamp() + interval '8 s';
    BEGIN
        IF EXISTS (SELECT FROM stalls WHERE what = concat_ws(' ',
            TG_OP, coalesce(written ->> 'name', written ->> 'cluster_name'), written ->> 'actual_state'))
        THEN
            -- The server's limit, and then the daemon, cancel it.
            WHILE clock_timestamp() < ends LOOP
                BEGIN
                    PERFORM pg_sleep(extract(epoch FROM ends - clock_timestamp()));
                EXCEPTION WHEN query_canceled THEN
                    NULL;
                END;
            END LOOP;
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER a_stall BEFORE INSERT ON cluster_leases FOR EACH ROW EXECUTE FUNCTION stall();
    CREATE TRIGGER a_stall BEFORE UPDATE ON clusters FOR EACH ROW EXECUTE FUNCTION stall()";

/// The daemon's session that executes the stalling statement.
const STALLED: &str = "
    SELECT pid, query_start::text FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'kindler' AND wait_event = 'PgSleep'";

/// The deadline of the call, and the lock timeout of the release that follows: the late
/// statement may have locked the lease.
const NOTICED_WITHIN: Duration = Duration::from_secs(12);

async fn a_statement_outlives_its_caller(what: &str, operation: &str) {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    sql.run(STALLS).await;
    sql.run(&format!("INSERT INTO stalls VALUES ('{what}')"))
        .await;
    let daemon = quick(&database.url(), &host).start().await;
    let declared = Instant::now();
    sql.declare("dev").await;
    let (session, begun): (i32, String) = eventually(TIMEOUT, "the stalling statement", || async {
        let row = sql.query_opt(STALLED, &[]).await.unwrap()?;
        Some((row.get(0), row.get(1)))
    })
    .await;
    let stalled = Instant::now();
    let other = begun_after(&sql, &host, "other").await;
    assert!(other < AT_ONCE, "another cluster waited for {other:?}");

    let error = format!("{operation}: no answer from the database within 5s");
    eventually(TIMEOUT, "the client's deadline in the log", || async {
        daemon.log().contains(&error)
    })
    .await;
    let cut = stalled.elapsed();
    assert!(cut < NOTICED_WITHIN, "only after {cut:?}");
    sql.run("DELETE FROM stalls").await;
    // The session is not used for another statement, and is closed.
    let on = "SELECT query_start::text FROM pg_stat_activity WHERE pid = $1";
    eventually(TIMEOUT, "the end of the late session", || async {
        let found = sql.query_opt(on, &[&session]).await.unwrap();
        if let Some(row) = &found {
            assert_eq!(row.get::<_, String>(0), begun, "the session was used again");
        }
        found.is_none()
    })
    .await;
    assert!(
        declared.elapsed() > Duration::from_secs(7),
        "it did not outlive its caller"
    );
    converged(&sql, &host).await;
    assert_eq!(host.started("dev"), ["create"], "{:#?}", host.journal());
    report(
        &format!("a statement outlives its caller ({what})"),
        &format!(
            "cancelled after {:.1} s, converged after {:.1} s, 1 command",
            cut.as_secs_f64(),
            stalled.elapsed().as_secs_f64()
        ),
    );
}

#[tokio::test]
async fn a_claim_that_succeeds_too_late_is_not_used() {
    a_statement_outlives_its_caller("INSERT dev", "claim rows").await;
}

#[tokio::test]
async fn an_intent_written_too_late_starts_no_second_command() {
    a_statement_outlives_its_caller("UPDATE dev creating", "write a status").await;
}

#[tokio::test]
async fn a_result_written_too_late_repeats_nothing() {
    a_statement_outlives_its_caller("UPDATE dev running", "write a status").await;
}

/// Milliseconds for which a transaction of the daemon has been open.
const OLDEST_TRANSACTION: &str = "
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start) * 1000), 0)::int8
    FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kindler'";

/// The number of commands that run all the time, whose leases are renewed.
const RUNNING: i64 = 8;

/// The parts of their rows and leases that only a status write or a takeover changes.
const UNTOUCHED: &str = "
    SELECT string_agg(concat_ws(' ', c.name, c.xmin, l.term), ', ' ORDER BY name)
    FROM clusters c LEFT JOIN cluster_leases l ON l.cluster_name = c.name WHERE c.name LIKE 'slow-%'";

/// Rows that are updated after the open snapshot cannot be vacuumed, and renewals and
/// heartbeats leave thousands of dead rows.
#[tokio::test]
async fn an_open_transaction_delays_no_wakeup() {
    let (database, host) = (migrated().await, Host::new());
    let (sql, reader) = (database.connect().await, database.connect().await);
    host.control(
        "create",
        "case \"$name\" in slow-*) while [ ! -e \"$here/live/go\" ]; do sleep 0.2; done ;; esac",
    );
    let daemon = daemon_without_passes(&database.url(), &host);
    daemon.ready().await;
    let slow = format!(
        "INSERT INTO clusters (name, provider) SELECT 'slow-' || n, 'k3d' FROM generate_series(1, {RUNNING}) n"
    );
    sql.run(&slow).await;
    eventually(TIMEOUT, "all creates running", || async {
        host.journal().len() == RUNNING as usize
    })
    .await;
    let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM cluster_leases";
    reader.run(snapshot).await;
    let before = sql.text(UNTOUCHED).await;

    let heartbeats = tokio::spawn(renew_often(database.connect().await));
    let window = Duration::from_secs(rounds(9, 3600).try_into().unwrap());
    let (began, mut oldest, mut wakeups) = (Instant::now(), 0, Vec::new());
    while began.elapsed() < window {
        oldest = oldest.max(sql.number(OLDEST_TRANSACTION).await);
        if began.elapsed() > window.mul_f64(wakeups.len() as f64 / 30.0) {
            let name = format!("new-{}", wakeups.len());
            wakeups.push(begun_after(&sql, &host, &name).await);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    heartbeats.abort();
    let oldest = milliseconds(oldest);
    assert!(oldest < Duration::from_secs(2), "open for {oldest:?}");
    let slowest = *wakeups.iter().max().unwrap();
    assert!(slowest < AT_ONCE, "a wake-up took {slowest:?}");
    // The leases were renewed many times without a write to the rows of the clusters.
    assert_eq!(sql.text(UNTOUCHED).await, before);
    let dead = sql
        .number("SELECT pg_relation_size('cluster_leases')")
        .await;
    std::fs::write(host.path().join("live/go"), "").unwrap();
    converged(&sql, &host).await;
    for n in 1..=RUNNING {
        assert_eq!(host.started(&format!("slow-{n}")), ["create"]);
    }
    reader.run("COMMIT").await;
    report(
        "a transaction kept open by another session",
        &format!(
            "for {} s, {} kB of leases for {RUNNING}; wake-ups {}; own transactions open for at most {:.3} s",
            window.as_secs(),
            dead / 1024,
            spread(wakeups),
            oldest.as_secs_f64()
        ),
    );
}

/// A daemon that finds new rows only by their notifications.
fn daemon_without_passes(url: &str, host: &Host) -> Daemon {
    quick(url, host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .set("KINDLER_CONCURRENCY", "16")
        .spawn()
}

/// Renewals and heartbeats at ten times their rate, in the short form at a hundred
/// times; they extend no lease.
async fn renew_often(sql: Client) {
    let pause = Duration::from_millis(rounds(5, 50).try_into().unwrap());
    loop {
        sql.run(
            "UPDATE cluster_leases SET renewed_at = clock_timestamp();
             UPDATE kindler_replicas SET seen_at = clock_timestamp()",
        )
        .await;
        tokio::time::sleep(pause).await;
    }
}

const TRANSACTIONS: &str = "
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
const LOCK_DECLARATIONS: &str = "
    SELECT pg_advisory_lock(hashtextextended('kindler declares ' || current_schema(), 0))";

/// A statement of a transaction is rejected, and so is the rollback.
#[tokio::test]
async fn a_connection_whose_rollback_is_rejected_is_closed() {
    let database = migrated().await;
    let proxy = Proxy::to(&database).await;
    let sql = database.connect().await;
    let store = Store::new(&Url::parse(&proxy.url()).unwrap(), 1, "kindler");
    sql.run(LOCK_DECLARATIONS).await;
    let create = vec![declaration("dev")];
    // The store must outlive the batch, or all its connections would close.
    let second_store = store.clone();
    let ordered = tokio::spawn(async move {
        let delete = Vec::new();
        second_store
            .declare_batch(&Batch {
                create,
                delete,
                ..Batch::default()
            })
            .await
    });
    sql.wait_number(
        &format!("SELECT count(*) FROM ({LONGEST_WAIT}) AS waits (ms) WHERE ms > 0"),
        1,
    )
    .await;
    proxy.set(Traffic::DiskFull);
    sql.run("SELECT pg_advisory_unlock_all()").await;
    ordered.await.unwrap().unwrap_err();
    sql.wait_number(TRANSACTIONS, 0).await;
    assert_eq!(sql.number("SELECT count(*) FROM clusters").await, 0);
    proxy.set(Traffic::Flows);
    let made = store.declare(&declaration("dev")).await.unwrap();
    assert!(matches!(made, Declared::New(_)), "{made:?}");
    assert_eq!(sql.number("SELECT count(*) FROM clusters").await, 1);
}
