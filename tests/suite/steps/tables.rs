//! The core as a library: two controllers over two tables in one process, and the
//! effects of `kindler_prepare_table` on a table.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use kindler::core::database::Database as Url;
use kindler::core::runtime::Runtime;
use kindler::core::standard::RowSpec;
use kindler::core::table::Statements;
use prometheus::Registry;

use super::rig::STEPS_TIMEOUT;
use super::two_tables::{Lamp, TwoTables, prepare};
use crate::kit::{Database, Sql, eventually};

#[tokio::test]
async fn one_process_reconciles_two_tables() {
    let both = TwoTables::new().await;
    both.sql
        .run("INSERT INTO lamps (name, watts) VALUES ('desk', 40)")
        .await;
    both.until_made("lamp", "desk", Some(40)).await;
    both.sql
        .run("INSERT INTO doors (label, width) VALUES ('desk', 90)")
        .await;
    both.until_made("door", "desk", Some(90)).await;
    both.sql.run("UPDATE doors SET width = 100").await;
    both.until_made("door", "desk", Some(100)).await;
    assert_eq!(both.made("lamp", "desk"), Some(40));
    both.sql.wait_number("SELECT count(*) FROM doors WHERE state = 'ready' AND generation = 2 AND observed_generation = 2", 1).await;
    // A failure is visible, has a next attempt, and a changed row is retried at once.
    both.sql
        .run("INSERT INTO lamps (name, watts) VALUES ('bad', -1)")
        .await;
    both.sql.wait_number("SELECT count(*) FROM lamps WHERE name = 'bad' AND state = 'failed' AND next_attempt_at > now() AND message = 'it cannot be made'", 1).await;
    both.sql
        .run("UPDATE lamps SET watts = 1 WHERE name = 'bad'")
        .await;
    both.until_made("lamp", "bad", Some(1)).await;
    // One connection listens for both tables.
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%LISTEN%' AND pid <> pg_backend_pid()";
    assert_eq!(both.sql.number(listening).await, 1);
    both.sql
        .wait_number(
            "SELECT (SELECT count(*) FROM lamps_leases) + (SELECT count(*) FROM doors_leases)",
            0,
        )
        .await;
    both.end().await;
}

#[tokio::test]
async fn a_delete_keeps_the_row_until_its_object_is_gone() {
    let both = TwoTables::new().await;
    both.sql
        .run("INSERT INTO lamps (name, watts) VALUES ('desk', 40)")
        .await;
    both.until_made("lamp", "desk", Some(40)).await;
    both.sql
        .wait_number("SELECT count(*) FROM lamps WHERE state = 'ready'", 1)
        .await;
    // The lease is deleted one statement after the state is written.
    both.sql
        .wait_number("SELECT count(*) FROM lamps_leases", 0)
        .await;
    // While another owner holds the lease, the object and its row stay.
    both.sql.run(
        "INSERT INTO lamps_leases SELECT name, uid, 'another', nextval('lamps_terms'), now(), now(), now() + interval '1 hour' FROM lamps;
         DELETE FROM lamps",
    )
    .await;
    assert_eq!(
        both.sql
            .number("SELECT count(*) FROM lamps WHERE deleted_at IS NOT NULL AND generation = 2")
            .await,
        1
    );
    assert_eq!(both.made("lamp", "desk"), Some(40));
    both.sql.run("DELETE FROM lamps").await;
    assert_eq!(
        both.sql.number("SELECT generation FROM lamps").await,
        2,
        "a second DELETE must not change the generation"
    );
    both.sql
        .run("UPDATE lamps_leases SET expires_at = now()")
        .await;
    both.sql.wait_number("SELECT count(*) FROM lamps", 0).await;
    assert_eq!(both.made("lamp", "desk"), None);
    both.sql
        .wait_number("SELECT count(*) FROM lamps_leases", 0)
        .await;
    let kinds = "SELECT string_agg(kind || ' ' || coalesce(to_state, '-'), ', ' ORDER BY id) FROM lamps_events";
    let kinds: String = both.sql.query_one(kinds, &[]).await.unwrap().get(0);
    assert_eq!(
        kinds,
        "declared pending, transition working, transition ready, deleted ready, transition deleting, removed -"
    );
    both.end().await;
}

#[tokio::test]
async fn a_prepared_table_rejects_writes_that_would_orphan() {
    let both = TwoTables::new().await;
    both.sql
        .run("INSERT INTO lamps (name, watts) VALUES ('desk', 40)")
        .await;
    both.sql
        .wait_number("SELECT count(*) FROM lamps WHERE state = 'ready'", 1)
        .await;
    let truncated = both.sql.refused("TRUNCATE lamps CASCADE").await;
    assert!(truncated.contains("use DELETE"), "{truncated}");
    for change in ["name = 'other'", "uid = gen_random_uuid()"] {
        let text = both
            .sql
            .refused(&format!("UPDATE lamps SET {change}"))
            .await;
        assert!(text.contains("cannot be changed"), "{text}");
    }
    both.sql.refused("INSERT INTO lamps_steps (uid, driver, name, position, total, version, required, state) SELECT uid, 'd', 's', 1, 1, 1, true, 'unknown' FROM lamps").await;
    // Even with the fence of an expired lease the row stays, marked as deleted; then
    // its reconciler removes it.
    both.sql
        .wait_number("SELECT count(*) FROM lamps_leases", 0)
        .await;
    both.sql.run(
        "INSERT INTO lamps_leases SELECT name, uid, 'another', 7000, now(), now(), now() FROM lamps;
         BEGIN; SET LOCAL kindler.fence = '7000'; DELETE FROM lamps",
    )
    .await;
    let declared = "SELECT count(*) FROM lamps WHERE deleted_at IS NOT NULL";
    assert_eq!(both.sql.number(declared).await, 1);
    both.sql.run("COMMIT").await;
    both.sql.wait_number("SELECT count(*) FROM lamps", 0).await;
    both.end().await;
}

#[tokio::test]
async fn status_writes_neither_notify_nor_change_the_generation() {
    let both = TwoTables::new().await;
    let (listener, mut connection) =
        tokio_postgres::connect(&both.database.url(), tokio_postgres::NoTls)
            .await
            .unwrap();
    let received = Arc::new(Mutex::new(Vec::new()));
    let sink = received.clone();
    tokio::spawn(async move {
        while let Some(Ok(message)) =
            std::future::poll_fn(|context| connection.poll_message(context)).await
        {
            if let tokio_postgres::AsyncMessage::Notification(text) = message {
                sink.lock().unwrap().push(text.payload().to_owned());
            }
        }
    });
    listener
        .batch_execute("LISTEN kindler_lamps_public; LISTEN done")
        .await
        .unwrap();
    both.sql
        .run("INSERT INTO lamps (name, watts) VALUES ('desk', 40)")
        .await;
    both.sql
        .wait_number("SELECT count(*) FROM lamps WHERE state = 'ready'", 1)
        .await;
    // Neither a status nor a column that is not part of the spec counts as a change.
    both.sql
        .run("UPDATE lamps SET note = 'mine', watts = 40; UPDATE lamps SET message = 'by hand'")
        .await;
    assert_eq!(both.sql.number("SELECT generation FROM lamps").await, 1);
    both.sql.run("UPDATE lamps SET watts = 60").await;
    both.until_made("lamp", "desk", Some(60)).await;
    both.sql
        .run("UPDATE lamps SET retry_requested_at = now(); NOTIFY done, 'done'")
        .await;
    eventually(STEPS_TIMEOUT, "the last notification", || async {
        received
            .lock()
            .unwrap()
            .last()
            .is_some_and(|last| last == "done")
    })
    .await;
    // The insert, the change, the retry.
    assert_eq!(*received.lock().unwrap(), ["desk", "desk", "desk", "done"]);
    both.end().await;
}

#[tokio::test]
async fn a_full_pass_uses_the_index_over_due_at() {
    let database = Database::create().await;
    let runtime = Runtime::new(Url::parse(&database.url()).unwrap(), &Registry::new());
    prepare(&runtime).await;
    database
        .run(
            "INSERT INTO lamps (name, watts, state, observed_generation, next_check_at)
             SELECT 'l' || n, 1, 'ready', 1, now() + interval '1 day' FROM generate_series(1, 20000) n;
             UPDATE lamps SET watts = 2 WHERE name IN ('l7', 'l8');
             ANALYZE lamps",
        )
        .await;
    let due = Statements::of(&Lamp::TABLE).due;
    let sql = database.connect().await;
    sql.batch_execute(&format!("PREPARE due (float8, bigint, jsonb) AS {due}"))
        .await
        .unwrap();
    let plan = sql
        .query(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE due (30, 100, NULL)",
            &[],
        )
        .await
        .unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert!(plan.contains("lamps_due"), "{plan}");
    assert!(!plan.contains("Seq Scan on lamps t"), "{plan}");
    let rows = sql.query("EXECUTE due (30, 100, NULL)", &[]).await.unwrap();
    assert_eq!(rows.len(), 2);
}

#[tokio::test]
async fn preparing_a_table_is_concurrent_and_idempotent() {
    let database = Database::create().await;
    let url = Url::parse(&database.url()).unwrap();
    let runtimes: Vec<_> = (0..6)
        .map(|_| Runtime::new(url.clone(), &Registry::new()))
        .collect();
    join_all(runtimes.iter().map(prepare)).await;
    let made = "SELECT string_agg(what, ',' ORDER BY what) FROM (
        SELECT tgname::text AS what FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT indexname FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public') w";
    let first = database.value::<String>(made).await;
    database
        .run("INSERT INTO lamps (name, watts) VALUES ('desk', 40)")
        .await;
    // Prepared without the runtime's lock.
    let again = "SELECT kindler_prepare_table('lamps', 'name', '{watts}')";
    database.run(again).await;
    assert_eq!(database.value::<String>(made).await, first);
    let kept = "SELECT count(*) FROM lamps WHERE generation = 1 AND state = 'pending'";
    assert_eq!(database.value::<i64>(kept).await, 1);
    // Several sessions prepare a new table at once.
    database
        .run("CREATE TABLE bells (name text PRIMARY KEY, tone integer)")
        .await;
    let by_hand = "SELECT kindler_prepare_table('bells', 'name', '{tone}')";
    join_all((0..6).map(|_| database.run(by_hand))).await;
    database
        .run("DROP TABLE bells, bells_leases, bells_steps, bells_events CASCADE")
        .await;
    // A dropped or disabled trigger is restored.
    database
        .run("DROP TRIGGER lamps_3_finalize ON lamps; ALTER TABLE lamps DISABLE TRIGGER lamps_4_notify_insert")
        .await;
    database.run(again).await;
    assert_eq!(database.value::<String>(made).await, first);
    let off = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'O'";
    assert_eq!(database.value::<i64>(off).await, 0);
}

/// Names of more than 63 bytes are cut: two triggers would share one, and a DELETE
/// would no longer keep its row.
#[tokio::test]
async fn a_long_table_name_keeps_every_trigger_or_is_rejected() {
    let database = Database::create().await;
    let runtime = Runtime::new(Url::parse(&database.url()).unwrap(), &Registry::new());
    prepare(&runtime).await;
    let triggers = async |table: &str| {
        let sql = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = ";
        let sql = format!("{sql}'{table}'::regclass");
        database.value::<i64>(&sql).await
    };
    let expected = triggers("lamps").await;
    for length in [40, 41, 60] {
        let name = "t".repeat(length);
        database
            .run(&format!(
                "CREATE TABLE {name} (name text PRIMARY KEY, tone integer)"
            ))
            .await;
        let sql = format!("SELECT kindler_prepare_table('{name}', 'name', '{{tone}}')");
        let prepared = database.connect().await.batch_execute(&sql).await;
        if length > 40 {
            let error = prepared.unwrap_err();
            let error = error.as_db_error().unwrap().message();
            assert!(
                error.ends_with(&format!("has {length} bytes: use at most 40")),
                "{error}"
            );
            continue;
        }
        prepared.unwrap();
        assert_eq!(triggers(&name).await, expected);
        database
            .run(&format!(
                "INSERT INTO {name} VALUES ('a', 1); DELETE FROM {name}"
            ))
            .await;
        let kept = format!("SELECT count(*) FROM {name}");
        assert_eq!(database.value::<i64>(&kept).await, 1);
    }
}
