//! The core as a library: two controllers over two tables of their own in one
//! process, and what `kindler_prepare_table` makes of a table.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use kindler::core::database::Database as Url;
use kindler::core::runtime::Runtime;
use kindler::core::standard::RowSpec;
use kindler::core::table::Statements;
use prometheus::Registry;

use super::rig::SOON;
use super::things::{Both, Lamp, prepare};
use crate::kit::{Database, eventually};

#[tokio::test]
async fn two_tables_are_reconciled_by_one_process() {
    let both = Both::new().await;
    both.run("INSERT INTO lamps (name, watts) VALUES ('desk', 40)")
        .await;
    both.until_made("lamp", "desk", Some(40)).await;
    both.run("INSERT INTO doors (label, width) VALUES ('desk', 90)")
        .await;
    both.until_made("door", "desk", Some(90)).await;
    both.run("UPDATE doors SET width = 100").await;
    both.until_made("door", "desk", Some(100)).await;
    assert_eq!(both.made("lamp", "desk"), Some(40));
    both.until("SELECT count(*) FROM doors WHERE state = 'ready' AND generation = 2 AND observed_generation = 2", 1).await;
    // A failure is visible, has a next attempt, and is retried on demand.
    both.run("INSERT INTO lamps (name, watts) VALUES ('bad', -1)")
        .await;
    both.until("SELECT count(*) FROM lamps WHERE name = 'bad' AND state = 'failed' AND next_attempt_at > now() AND message = 'it cannot be made'", 1).await;
    both.run("UPDATE lamps SET watts = 1 WHERE name = 'bad'")
        .await;
    both.until_made("lamp", "bad", Some(1)).await;
    // One connection listens for both.
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%LISTEN%' AND pid <> pg_backend_pid()";
    assert_eq!(both.number(listening).await, 1);
    both.until(
        "SELECT (SELECT count(*) FROM lamps_leases) + (SELECT count(*) FROM doors_leases)",
        0,
    )
    .await;
    both.end().await;
}

#[tokio::test]
async fn a_delete_keeps_the_row_until_its_thing_is_gone() {
    let both = Both::new().await;
    both.run("INSERT INTO lamps (name, watts) VALUES ('desk', 40)")
        .await;
    both.until_made("lamp", "desk", Some(40)).await;
    both.until("SELECT count(*) FROM lamps WHERE state = 'ready'", 1)
        .await;
    // The lease goes one statement after the state is written.
    both.until("SELECT count(*) FROM lamps_leases", 0).await;
    // While another owner holds it, nothing happens to it; and the row stays.
    both.run(
        "INSERT INTO lamps_leases SELECT name, uid, 'another', nextval('lamps_terms'), now(), now(), now() + interval '1 hour' FROM lamps;
         DELETE FROM lamps",
    )
    .await;
    assert_eq!(
        both.number("SELECT count(*) FROM lamps WHERE deleted_at IS NOT NULL AND generation = 2")
            .await,
        1
    );
    assert_eq!(both.made("lamp", "desk"), Some(40));
    both.run("DELETE FROM lamps").await;
    assert_eq!(
        both.number("SELECT generation FROM lamps").await,
        2,
        "a second DELETE declares nothing"
    );
    both.run("UPDATE lamps_leases SET expires_at = now()").await;
    both.until("SELECT count(*) FROM lamps", 0).await;
    assert_eq!(both.made("lamp", "desk"), None);
    both.until("SELECT count(*) FROM lamps_leases", 0).await;
    let kinds = "SELECT string_agg(kind || ' ' || coalesce(to_state, '-'), ', ' ORDER BY id) FROM lamps_events";
    let kinds: String = both.sql.query_one(kinds, &[]).await.unwrap().get(0);
    assert_eq!(
        kinds,
        "declared pending, transition working, transition ready, deleted ready, transition deleting, removed -"
    );
    both.end().await;
}

#[tokio::test]
async fn a_prepared_table_refuses_what_would_orphan() {
    let both = Both::new().await;
    both.run("INSERT INTO lamps (name, watts) VALUES ('desk', 40)")
        .await;
    both.until("SELECT count(*) FROM lamps WHERE state = 'ready'", 1)
        .await;
    let truncated = both.refused("TRUNCATE lamps CASCADE").await;
    assert!(truncated.contains("use DELETE"), "{truncated}");
    for change in ["name = 'other'", "uid = gen_random_uuid()"] {
        let told = both.refused(&format!("UPDATE lamps SET {change}")).await;
        assert!(told.contains("cannot be changed"), "{told}");
    }
    both.refused("INSERT INTO lamps_steps (uid, driver, name, position, total, version, required, state) SELECT uid, 'd', 's', 1, 1, 1, true, 'unknown' FROM lamps").await;
    // Even with the fence of an expired lease the row stays, declared deleted: then
    // its reconciler removes it.
    both.until("SELECT count(*) FROM lamps_leases", 0).await;
    both.run(
        "INSERT INTO lamps_leases SELECT name, uid, 'another', 7000, now(), now(), now() FROM lamps;
         BEGIN; SET LOCAL kindler.fence = '7000'; DELETE FROM lamps",
    )
    .await;
    let declared = "SELECT count(*) FROM lamps WHERE deleted_at IS NOT NULL";
    assert_eq!(both.number(declared).await, 1);
    both.run("COMMIT").await;
    both.until("SELECT count(*) FROM lamps", 0).await;
    both.end().await;
}

#[tokio::test]
async fn status_writes_send_no_notification_and_declare_nothing() {
    let both = Both::new().await;
    let (listener, mut connection) =
        tokio_postgres::connect(&both.database.url(), tokio_postgres::NoTls)
            .await
            .unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = heard.clone();
    tokio::spawn(async move {
        while let Some(Ok(message)) =
            std::future::poll_fn(|context| connection.poll_message(context)).await
        {
            if let tokio_postgres::AsyncMessage::Notification(told) = message {
                hearing.lock().unwrap().push(told.payload().to_owned());
            }
        }
    });
    listener
        .batch_execute("LISTEN kindler_lamps_public; LISTEN done")
        .await
        .unwrap();
    both.run("INSERT INTO lamps (name, watts) VALUES ('desk', 40)")
        .await;
    both.until("SELECT count(*) FROM lamps WHERE state = 'ready'", 1)
        .await;
    // Neither a status nor a column that is not desired counts as a change.
    both.run("UPDATE lamps SET note = 'mine', watts = 40; UPDATE lamps SET message = 'by hand'")
        .await;
    assert_eq!(both.number("SELECT generation FROM lamps").await, 1);
    both.run("UPDATE lamps SET watts = 60").await;
    both.until_made("lamp", "desk", Some(60)).await;
    both.run("UPDATE lamps SET retry_requested_at = now(); NOTIFY done, 'done'")
        .await;
    eventually(SOON, "the last notification", || async {
        heard
            .lock()
            .unwrap()
            .last()
            .is_some_and(|last| last == "done")
    })
    .await;
    // The insert, the change, the retry.
    assert_eq!(*heard.lock().unwrap(), ["desk", "desk", "desk", "done"]);
    both.end().await;
}

#[tokio::test]
async fn a_full_pass_uses_the_index_over_due_at() {
    let database = Database::create().await;
    let runtime = Runtime::new(Url::parse(&database.url()).unwrap(), &Registry::new());
    prepare(&runtime).await;
    database
        .execute(
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
async fn a_table_is_prepared_by_many_at_once_and_again() {
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
        .execute("INSERT INTO lamps (name, watts) VALUES ('desk', 40)")
        .await;
    // By hand as well, without the lock of the runtime.
    let again = "SELECT kindler_prepare_table('lamps', 'name', '{watts}')";
    database.execute(again).await;
    assert_eq!(database.value::<String>(made).await, first);
    let kept = "SELECT count(*) FROM lamps WHERE generation = 1 AND state = 'pending'";
    assert_eq!(database.value::<i64>(kept).await, 1);
    // Several at once, the first time, by hand.
    database
        .execute("CREATE TABLE bells (name text PRIMARY KEY, tone integer)")
        .await;
    let by_hand = "SELECT kindler_prepare_table('bells', 'name', '{tone}')";
    join_all((0..6).map(|_| database.execute(by_hand))).await;
    database
        .execute("DROP TABLE bells, bells_leases, bells_steps, bells_events CASCADE")
        .await;
    // A trigger that was lost or switched off is back.
    database
        .execute("DROP TRIGGER lamps_3_finalize ON lamps; ALTER TABLE lamps DISABLE TRIGGER lamps_4_notify_insert")
        .await;
    database.execute(again).await;
    assert_eq!(database.value::<String>(made).await, first);
    let off = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'O'";
    assert_eq!(database.value::<i64>(off).await, 0);
}

/// Names of more than 63 bytes are cut: two triggers would share one, and a DELETE
/// would no longer keep its row.
#[tokio::test]
async fn a_long_table_name_keeps_every_trigger_or_is_refused() {
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
            .execute(&format!(
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
            .execute(&format!(
                "INSERT INTO {name} VALUES ('a', 1); DELETE FROM {name}"
            ))
            .await;
        let kept = format!("SELECT count(*) FROM {name}");
        assert_eq!(database.value::<i64>(&kept).await, 1);
    }
}
