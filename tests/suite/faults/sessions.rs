//! Sessions of others, and statements of ours, that take too long: a row that
//! somebody keeps locked, a statement that outlives whoever waits for it, a
//! transaction that stays open for ever.

use std::time::{Duration, Instant};

use kindler::core::database::Database as Url;
use kindler::store::{Batch, Declared, Store};
use rustix::process::Signal;
use tokio_postgres::Client;

use super::{converged, migrated, number, quick, report, rounds, run, spread};
use crate::kit::{Daemon, Host, Proxy, Traffic, eventually};
use crate::schema::isolation::declaration;

const SOON: Duration = Duration::from_secs(20);

/// Others do not wait for what is stuck: less than any limit of ours.
const AT_ONCE: Duration = Duration::from_millis(2500);

fn milliseconds(count: i64) -> Duration {
    Duration::from_millis(count.try_into().unwrap())
}

/// How long after its commit a new cluster's command is started.
async fn begun_after(sql: &Client, host: &Host, name: &str) -> Duration {
    let insert = format!("INSERT INTO clusters (name, provider) VALUES ('{name}', 'k3d')");
    run(sql, &insert).await;
    let declared = Instant::now();
    eventually(SOON, "another cluster to be begun", || async {
        !host.started(name).is_empty()
    })
    .await;
    declared.elapsed()
}

/// Milliseconds for which a session of the daemon has been waiting for a lock.
const LONGEST_WAIT: &str = "
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - query_start) * 1000), 0)::int8
    FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'kindler' AND wait_event_type = 'Lock'";

/// Longer than a call may take, by as much as a busy machine needs.
const PATIENCE: Duration = Duration::from_millis(6500);

/// One row is locked while it is due, another while its command runs, so that
/// the claim of the one and the status of the other have to wait.
#[tokio::test]
async fn rows_that_somebody_keeps_locked_hold_up_only_themselves() {
    let (database, host) = (migrated().await, Host::new());
    let (sql, holder) = (database.connect().await, database.connect().await);
    host.control(
        "begun.create",
        "while [ ! -e \"$here/live/go\" ]; do sleep 0.05; done",
    );
    run(
        &sql,
        "INSERT INTO clusters (name, provider) VALUES ('due', 'k3d'), ('begun', 'k3d')",
    )
    .await;
    let lock = "SELECT FROM clusters WHERE name =";
    run(&holder, &format!("BEGIN; {lock} 'due' FOR UPDATE")).await;
    let mut daemon = quick(&database.url(), &host).spawn();
    daemon.ready().await;
    eventually(SOON, "the other's create to run", || async {
        host.started("begun") == ["create"]
    })
    .await;
    run(&holder, &format!("{lock} 'begun' FOR UPDATE")).await;
    std::fs::write(host.path().join("live/go"), "").unwrap();

    let hold = Duration::from_secs(rounds(9, 120).try_into().unwrap());
    let (locked, mut longest, mut others) = (Instant::now(), 0, Vec::new());
    while locked.elapsed() < hold {
        longest = longest.max(number(&sql, LONGEST_WAIT).await);
        let due = hold.mul_f64(others.len() as f64 / 8.0);
        if locked.elapsed() > due {
            let name = format!("other-{}", others.len());
            others.push(begun_after(&sql, &host, &name).await);
            // A lock of others is no outage.
            assert_eq!(daemon.get("/readyz").await.unwrap().0, 200);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let longest = milliseconds(longest);
    assert!(longest > Duration::from_secs(1), "nobody waited");
    assert!(longest < PATIENCE, "a session waited for {longest:?}");
    let slowest = *others.iter().max().unwrap();
    assert!(slowest < AT_ONCE, "another cluster waited for {slowest:?}");

    // Told to end while it waits for the lock.
    eventually(SOON, "the next one to wait", || async {
        number(&sql, LONGEST_WAIT).await > 0
    })
    .await;
    let told = Instant::now();
    daemon.signal(Signal::TERM);
    daemon.ended(SOON).await;
    let ended = told.elapsed();

    let _next = quick(&database.url(), &host).spawn();
    begun_after(&sql, &host, "later").await;
    assert!(host.started("due").is_empty(), "{:?}", host.journal());
    run(&holder, "ROLLBACK").await;
    let unlocked = Instant::now();
    converged(&sql, &host).await;
    assert!(unlocked.elapsed() < SOON, "{:?}", unlocked.elapsed());
    report(
        "rows locked by another session",
        &format!(
            "for {} s; a session waited at most {:.1} s, others began {}; ended {:.1} s after TERM, right {:.1} s after the lock went",
            hold.as_secs(),
            longest.as_secs_f64(),
            spread(others),
            ended.as_secs_f64(),
            unlocked.elapsed().as_secs_f64()
        ),
    );
}

/// Makes the statement that `stalls` names take eight seconds. It outlives the
/// client's deadline and the server's limit, and then takes effect: an answer
/// that nobody waits for any more, of something that has happened.
const STALLS: &str = "
    CREATE TABLE stalls (what text);
    CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        written jsonb := to_jsonb(NEW);
    BEGIN
        IF EXISTS (SELECT FROM stalls WHERE what = concat_ws(' ',
            TG_OP, coalesce(written ->> 'name', written ->> 'cluster_name'), written ->> 'actual_state'))
        THEN
            BEGIN
                PERFORM pg_sleep(8);
            EXCEPTION WHEN query_canceled THEN
                PERFORM pg_sleep(3);
            END;
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER a_stall BEFORE INSERT ON cluster_leases FOR EACH ROW EXECUTE FUNCTION stall();
    CREATE TRIGGER a_stall BEFORE UPDATE ON clusters FOR EACH ROW EXECUTE FUNCTION stall()";

/// The daemon's session that carries out the stalling statement.
const STALLED: &str = "
    SELECT pid, query_start::text FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'kindler' AND wait_event = 'PgSleep'";

/// The deadline of the call, and the lock timeout of the release that follows:
/// the late statement may have locked the lease.
const TOLD_WITHIN: Duration = Duration::from_secs(12);

async fn a_statement_outlives_its_caller(what: &str, operation: &str) {
    let (database, host) = (migrated().await, Host::new());
    let sql = database.connect().await;
    run(&sql, STALLS).await;
    run(&sql, &format!("INSERT INTO stalls VALUES ('{what}')")).await;
    let daemon = quick(&database.url(), &host).spawn();
    daemon.ready().await;
    run(
        &sql,
        "INSERT INTO clusters (name, provider) VALUES ('dev', 'k3d')",
    )
    .await;
    let (session, begun): (i32, String) = eventually(SOON, "it to stall", || async {
        let row = sql.query_opt(STALLED, &[]).await.unwrap()?;
        Some((row.get(0), row.get(1)))
    })
    .await;
    let stalled = Instant::now();
    let other = begun_after(&sql, &host, "other").await;
    assert!(other < AT_ONCE, "another cluster waited for {other:?}");

    let told = format!("{operation}: no answer from the database within 5s");
    eventually(SOON, "the client's deadline to cut it", || async {
        daemon.log().contains(&told)
    })
    .await;
    let cut = stalled.elapsed();
    assert!(cut < TOLD_WITHIN, "only after {cut:?}");
    run(&sql, "DELETE FROM stalls").await;
    // Its session does nothing else, whatever it answers, and is closed.
    let on = "SELECT query_start::text FROM pg_stat_activity WHERE pid = $1";
    eventually(SOON, "the late session to end", || async {
        let found = sql.query_opt(on, &[&session]).await.unwrap();
        if let Some(row) = &found {
            assert_eq!(row.get::<_, String>(0), begun, "the session is used again");
        }
        found.is_none()
    })
    .await;
    assert!(
        stalled.elapsed() > Duration::from_secs(7),
        "it did not outlive its caller"
    );
    converged(&sql, &host).await;
    assert_eq!(host.started("dev"), ["create"], "{:#?}", host.journal());
    report(
        &format!("a statement outlives its caller ({what})"),
        &format!(
            "cut after {:.1} s, right after {:.1} s, 1 command",
            cut.as_secs_f64(),
            stalled.elapsed().as_secs_f64()
        ),
    );
}

#[tokio::test]
async fn a_claim_that_is_won_too_late_is_no_claim() {
    a_statement_outlives_its_caller("INSERT dev", "claim rows").await;
}

#[tokio::test]
async fn an_intent_that_is_written_too_late_starts_nothing_twice() {
    a_statement_outlives_its_caller("UPDATE dev creating", "write a status").await;
}

#[tokio::test]
async fn an_end_that_is_written_too_late_repeats_nothing() {
    a_statement_outlives_its_caller("UPDATE dev running", "write a status").await;
}

/// Milliseconds for which a transaction of the daemon has been open.
const OLDEST_TRANSACTION: &str = "
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start) * 1000), 0)::int8
    FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kindler'";

/// So many commands run all the while, and are held by renewals.
const RUNNING: i64 = 8;

/// Their rows and leases, as far as only a status write or a takeover changes them.
const UNTOUCHED: &str = "
    SELECT string_agg(concat_ws(' ', c.name, c.xmin, l.term), ', ' ORDER BY name)
    FROM clusters c LEFT JOIN cluster_leases l ON l.cluster_name = c.name WHERE c.name LIKE 'slow-%'";

/// Nothing that dies after its snapshot can be cleaned up, and renewals and
/// heartbeats leave thousands of dead rows.
#[tokio::test]
async fn a_transaction_that_stays_open_slows_no_wakeup_and_none_of_ours_does() {
    let (database, host) = (migrated().await, Host::new());
    let (sql, reader) = (database.connect().await, database.connect().await);
    host.control(
        "create",
        "case \"$name\" in slow-*) while [ ! -e \"$here/live/go\" ]; do sleep 0.2; done ;; esac",
    );
    let daemon = busy(&database.url(), &host);
    daemon.ready().await;
    let slow = format!(
        "INSERT INTO clusters (name, provider) SELECT 'slow-' || n, 'k3d' FROM generate_series(1, {RUNNING}) n"
    );
    run(&sql, &slow).await;
    eventually(SOON, "all creates to run", || async {
        host.journal().len() == RUNNING as usize
    })
    .await;
    let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM cluster_leases";
    run(&reader, snapshot).await;
    let before = text(&sql, UNTOUCHED).await;

    let heartbeats = tokio::spawn(beat(database.connect().await));
    let window = Duration::from_secs(rounds(9, 3600).try_into().unwrap());
    let (began, mut oldest, mut wakeups) = (Instant::now(), 0, Vec::new());
    while began.elapsed() < window {
        oldest = oldest.max(number(&sql, OLDEST_TRANSACTION).await);
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
    // Held for many lives of a lease, and the wide table knows nothing of it.
    assert_eq!(text(&sql, UNTOUCHED).await, before);
    let dead = number(&sql, "SELECT pg_relation_size('cluster_leases')").await;
    std::fs::write(host.path().join("live/go"), "").unwrap();
    converged(&sql, &host).await;
    for n in 1..=RUNNING {
        assert_eq!(host.started(&format!("slow-{n}")), ["create"]);
    }
    run(&reader, "COMMIT").await;
    report(
        "a transaction held open elsewhere",
        &format!(
            "for {} s, {} kB of leases for {RUNNING}; wake-ups {}; a transaction of ours open for {:.3} s at most",
            window.as_secs(),
            dead / 1024,
            spread(wakeups),
            oldest.as_secs_f64()
        ),
    );
}

/// One that finds new rows by their ring alone.
fn busy(url: &str, host: &Host) -> Daemon {
    quick(url, host)
        .set("KINDLER_RESYNC_INTERVAL", "1h")
        .set("KINDLER_CONCURRENCY", "16")
        .spawn()
}

/// Renewals and heartbeats at ten times their rate, in the short form at a
/// hundred times; they lengthen no lease.
async fn beat(sql: Client) {
    let pause = Duration::from_millis(rounds(5, 50).try_into().unwrap());
    loop {
        run(
            &sql,
            "UPDATE cluster_leases SET renewed_at = clock_timestamp();
             UPDATE kindler_replicas SET seen_at = clock_timestamp()",
        )
        .await;
        tokio::time::sleep(pause).await;
    }
}

async fn text(sql: &Client, query: &str) -> String {
    sql.query_one(query, &[]).await.unwrap().get(0)
}

const TRANSACTIONS: &str = "
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
const DECLARERS: &str = "
    SELECT pg_advisory_lock(hashtextextended('kindler declares ' || current_schema(), 0))";

/// A statement of a transaction is refused, and its rollback too.
#[tokio::test]
async fn a_connection_whose_rollback_is_refused_is_closed() {
    let database = migrated().await;
    let proxy = Proxy::before(&database).await;
    let sql = database.connect().await;
    let store = Store::new(&Url::parse(&proxy.url()).unwrap(), 1, "kindler");
    run(&sql, DECLARERS).await;
    let create = vec![declaration("dev")];
    // The store outlives the batch, or all its connections would close.
    let declarer = store.clone();
    let ordered = tokio::spawn(async move {
        let delete = Vec::new();
        declarer.declare_batch(&Batch { create, delete }).await
    });
    eventually(SOON, "the batch to wait for the lock", || async {
        number(
            &sql,
            &format!("SELECT count(*) FROM ({LONGEST_WAIT}) AS waits (ms) WHERE ms > 0"),
        )
        .await
            == 1
    })
    .await;
    proxy.set(Traffic::DiskFull);
    run(&sql, "SELECT pg_advisory_unlock_all()").await;
    ordered.await.unwrap().unwrap_err();
    eventually(SOON, "the open transaction to end", || async {
        number(&sql, TRANSACTIONS).await == 0
    })
    .await;
    assert_eq!(number(&sql, "SELECT count(*) FROM clusters").await, 0);
    proxy.set(Traffic::Flows);
    let made = store.declare(&declaration("dev")).await.unwrap();
    assert!(matches!(made, Declared::New(_)), "{made:?}");
    assert_eq!(number(&sql, "SELECT count(*) FROM clusters").await, 1);
}
