//! Everything at once: poison rows, a host that answers badly, and ten
//! thousand clusters that are due when the daemon starts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{migrated, number, quick, report, run};
use crate::kit::{Host, eventually};

/// At most so many commands at a time, looks included.
const CONCURRENCY: usize = 4;

/// One probe in three fails, by the luck of the host; each tells how it went,
/// and how many commands live besides it.
const PROBE: &str = r#"
: > "$here/live/$1.$$"
ls "$here/live" | wc -l >> "$here/width"
luck=$(od -An -N1 -tu1 /dev/urandom)
rm -f "$here/live/$1.$$"
if [ "$luck" -lt 77 ]; then echo "$1 ill" >> "$here/probes"; exit 1; fi
echo "$1 well" >> "$here/probes"
"#;

#[tokio::test]
async fn a_good_row_starts_soon_beside_poison_bad_probes_and_ten_thousand_due() {
    let (database, host) = (migrated().await, Host::new());
    host.script("probe", PROBE);
    host.control(
        "create",
        r#"echo "$name made" >> "$here/probes"; case "$name" in poison-*) exit 1 ;; esac"#,
    );
    let sql = database.connect().await;
    run(
        &sql,
        "INSERT INTO clusters (name, provider) SELECT 'poison-' || n, 'k3d' FROM generate_series(1, 400) n;
         BEGIN;
         ALTER TABLE clusters DISABLE TRIGGER USER;
         ALTER TABLE clusters DROP CONSTRAINT clusters_name_is_a_label, DROP CONSTRAINT clusters_http_port_1_to_65535;
         INSERT INTO clusters (name, provider, http_port) SELECT 'Unreadable ' || n, 'k3d', 0 FROM generate_series(1, 100) n;
         INSERT INTO clusters (name, provider, actual_state, observed_generation)
             SELECT 'due-' || n, 'k3d', 'running', 1 FROM generate_series(1, 10000) n;
         UPDATE clusters SET observed_spec_hash = spec_hash WHERE name LIKE 'due-%';
         ALTER TABLE clusters ENABLE TRIGGER USER;
         COMMIT",
    )
    .await;
    let daemon = quick(&database.url(), &host)
        .set("KINDLER_CONCURRENCY", CONCURRENCY.to_string())
        .spawn();
    daemon.ready().await;
    run(
        &sql,
        "INSERT INTO clusters (name, provider) VALUES ('good', 'k3d')",
    )
    .await;
    let declared = Instant::now();
    eventually(
        Duration::from_secs(20),
        "the good one to be begun",
        || async { host.started("good") == ["create"] },
    )
    .await;
    let started = declared.elapsed();
    assert!(started < Duration::from_secs(5), "{started:?}");

    let tellings = || std::fs::read_to_string(host.path().join("probes")).unwrap_or_default();
    eventually(
        Duration::from_secs(180),
        "a due one to be repaired",
        || async {
            tellings()
                .lines()
                .any(|line| line.starts_with("due-") && line.ends_with("made"))
        },
    )
    .await;
    drop(daemon);
    let mut ill_in_a_row: HashMap<String, u32> = HashMap::new();
    let mut repaired = 0;
    for line in tellings().lines() {
        let (name, what) = line.split_once(' ').unwrap();
        let ill = ill_in_a_row.entry(name.to_owned()).or_default();
        match what {
            "ill" => *ill += 1,
            "well" => *ill = 0,
            _ if name.starts_with("due-") => {
                assert!(*ill >= 3, "{name} was repaired after {ill} failed probes");
                *ill = 0;
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
    let looked = number(
        &sql,
        "SELECT count(*) FROM clusters WHERE last_reconciled_at IS NOT NULL",
    )
    .await;
    report(
        "500 poison rows, bad probes, 10,000 due rows",
        &format!(
            "a good row was begun after {:.3} s; {looked} rows looked at, {repaired} repaired, none before 3 failures; {} commands at most",
            started.as_secs_f64(),
            widest.unwrap()
        ),
    );
}
