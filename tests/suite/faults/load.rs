//! Many problems at once: failing rows, failing probes, and ten thousand clusters that
//! are due when the daemon starts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{quick, report};
use crate::kit::{Host, Sql, eventually, migrated};

/// The maximum number of commands at a time, probes included.
const CONCURRENCY: usize = 4;

/// One probe in three fails at random; each probe records its result and the number of
/// commands that run.
const PROBE: &str = r#"
: > "$here/live/$1.$$"
ls "$here/live" | wc -l >> "$here/width"
random=$(od -An -N1 -tu1 /dev/urandom)
rm -f "$here/live/$1.$$"
if [ "$random" -lt 77 ]; then echo "$1 failed" >> "$here/probes"; exit 1; fi
echo "$1 ok" >> "$here/probes"
"#;

#[tokio::test]
async fn failing_rows_and_a_backlog_do_not_delay_others() {
    let (database, host) = (migrated().await, Host::new());
    host.script("probe", PROBE);
    host.control(
        "create",
        r#"echo "$name created" >> "$here/probes"; case "$name" in bad-*) exit 1 ;; esac"#,
    );
    let sql = database.connect().await;
    sql.run("INSERT INTO clusters (name, provider) SELECT 'bad-' || n, 'k3d' FROM generate_series(1, 400) n;
         BEGIN;
         ALTER TABLE clusters DISABLE TRIGGER USER;
         ALTER TABLE clusters DROP CONSTRAINT clusters_name_is_a_label, DROP CONSTRAINT clusters_http_port_1_to_65535;
         INSERT INTO clusters (name, provider, pf_port, http_port, https_port) SELECT 'Unreadable ' || n, 'k3d', 30000 + n, 0, 31000 + n FROM generate_series(1, 100) n;
         INSERT INTO clusters (name, provider, pf_port, http_port, https_port, actual_state, observed_generation)
             SELECT 'due-' || n, 'k3d', 1000 + n, 32000 + n, 43000 + n, 'running', 1 FROM generate_series(1, 10000) n;
         UPDATE clusters SET observed_spec_hash = spec_hash WHERE name LIKE 'due-%';
         ALTER TABLE clusters ENABLE TRIGGER USER;
         COMMIT",
    )
    .await;
    let daemon = quick(&database.url(), &host)
        // One more worker is reserved for what is short.
        .set("KINDLER_CONCURRENCY", (CONCURRENCY - 1).to_string())
        .start()
        .await;
    sql.declare("good").await;
    let declared = Instant::now();
    host.wait_started("good", &["create"]).await;
    let started = declared.elapsed();
    assert!(started < Duration::from_secs(5), "{started:?}");

    let probes = || std::fs::read_to_string(host.path().join("probes")).unwrap_or_default();
    eventually(
        Duration::from_secs(180),
        "the repair of a due cluster",
        || async {
            probes()
                .lines()
                .any(|line| line.starts_with("due-") && line.ends_with("created"))
        },
    )
    .await;
    drop(daemon);
    let mut failures_in_a_row: HashMap<String, u32> = HashMap::new();
    let mut repaired = 0;
    for line in probes().lines() {
        let (name, what) = line.split_once(' ').unwrap();
        let failures = failures_in_a_row.entry(name.to_owned()).or_default();
        match what {
            "failed" => *failures += 1,
            "ok" => *failures = 0,
            _ if name.starts_with("due-") => {
                assert!(
                    *failures >= 3,
                    "{name} was repaired after {failures} failed probes"
                );
                *failures = 0;
                repaired += 1;
            }
            _ => {}
        }
    }
    let widths = std::fs::read_to_string(host.path().join("width")).unwrap();
    let widest = widths
        .lines()
        .filter_map(|line| line.trim().parse::<usize>().ok())
        .max();
    assert!(
        widest.unwrap() <= CONCURRENCY,
        "{widest:?} commands at once"
    );
    host.assert_one_at_a_time();
    let observed = sql
        .number("SELECT count(*) FROM clusters WHERE last_reconciled_at IS NOT NULL")
        .await;
    report(
        "500 failing rows, failing probes, 10,000 due rows",
        &format!(
            "a good row began after {:.3} s; {observed} rows observed, {repaired} repaired, none before 3 failures; {} commands at most",
            started.as_secs_f64(),
            widest.unwrap()
        ),
    );
}
