//! Observations fail, are empty, cut off or invalid, and the database rejects
//! statements: a failed observation deletes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::{CONVERGED_BY, UNSETTLED, converged, report, rounds};
use crate::kit::{Daemon, Host, Proxy, Sql, Traffic, eventually, migrated};

/// What `kubectl get nodes` prints for the cluster of its context.
const KUBECTL: &str = r#"name=${2#*-}
    if grep -qx healthy "$here/clusters/$name" 2>/dev/null; then echo NAME STATUS; echo server-0 Ready; else echo refused >&2; exit 1; fi"#;
const K3D: &str = r#"list=
    for name in $(ls "$here/clusters" | grep ^k3d); do list="$list,{\"name\":\"$name\",\"serversCount\":1,\"serversRunning\":$(grep -cx healthy "$here/clusters/$name")}"; done
    echo "[${list#,}]""#;
const KIND: &str = r#"ls "$here/clusters" | grep ^kind || echo 'No kind clusters found.' >&2"#;
const DOCKER: &str = r#"case "$*" in *inspect*) name=${4%-control-plane}
    if grep -qx healthy "$here/clusters/$name"; then echo running; else echo exited; fi ;; esac"#;

/// Faults of a tool; `{good}` stands for its correct script.
const FAULTS: [&str; 9] = [
    "exit 1",
    "exit 127",
    "true",
    "kill -KILL $$",
    "echo null",
    "echo '['",
    "echo 'error: no connection to the container runtime' >&2; exit 1",
    "({good}) | head -c 9",
    "head -c 300000 /dev/urandom",
];

/// Puts a tool into the daemon's PATH; every call is counted.
fn tool(host: &Host, name: &str, text: &str) {
    let (path, part) = (host.path().join("bin").join(name), host.path().join("part"));
    let here = host.path().display();
    let text = format!("#!/bin/sh\nhere='{here}'\necho >> \"$here/calls\"\n{text}\n");
    fs::write(&part, text).unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(part, path).unwrap();
}

const TOOLS: [(&str, &str); 4] = [
    ("kubectl", KUBECTL),
    ("k3d", K3D),
    ("kind", KIND),
    ("docker", DOCKER),
];

/// Clusters that are declared absent while their delete fails.
const LEAVING: [&str; 2] = ["k3d-4", "kind-4"];

fn calls(host: &Host) -> u64 {
    fs::metadata(host.path().join("calls")).map_or(0, |calls| calls.len())
}

#[tokio::test]
async fn failed_observations_delete_nothing() {
    let (database, host) = (migrated().await, Host::new());
    fs::create_dir(host.path().join("bin")).unwrap();
    for (name, good) in TOOLS {
        tool(&host, name, good);
    }
    let sql = database.connect().await;
    let proxy = Proxy::to(&database).await;
    let path = format!("{}:/usr/bin:/bin", host.path().join("bin").display());
    let _daemon = Daemon::with_defaults(&proxy.url(), &host)
        .set("PATH", path)
        .set("KINDLER_CREATE_COMMAND", host.command("create"))
        .set("KINDLER_DELETE_COMMAND", host.command("delete"))
        .set("KINDLER_START_COMMAND", host.command("start"))
        .set("KINDLER_STOP_COMMAND", host.command("stop"))
        .set("KINDLER_HEALTH_INTERVAL", "1s")
        .set("KINDLER_HEALTH_REPROBE", "100ms")
        .set("KINDLER_BACKOFF_INITIAL", "200ms")
        .set("KINDLER_BACKOFF_MAX", "1s")
        .set("KINDLER_RESYNC_INTERVAL", "1s")
        .start()
        .await;
    sql.run("INSERT INTO clusters (name, provider) SELECT p || '-' || n, p FROM generate_series(1, 4) n, unnest('{k3d,kind}'::text[]) p;
         INSERT INTO clusters (name, provider, desired_state) VALUES ('k3d-still', 'k3d', 'stopped')",
    )
    .await;
    converged(&sql, &host).await;
    // The deletes of two absent clusters fail: their rows stay only because the
    // clusters are observed.
    for name in LEAVING {
        host.control(&format!("{name}.delete"), "exit 1");
    }
    sql.run("UPDATE clusters SET desired_state = 'absent' WHERE name IN ('k3d-4', 'kind-4')")
        .await;
    let trials = rounds(20, 200);
    for trial in 0..trials {
        for (name, good) in TOOLS {
            // At first each fault of all tools at once, then random faults.
            if trial < FAULTS.len() || fastrand::u8(..4) > 0 {
                let any = fastrand::usize(..FAULTS.len());
                let mut fault = *FAULTS.get(trial).unwrap_or(&FAULTS[any]);
                // For kind this output is a complete list with a cluster of that name.
                if name == "kind" && fault == "echo null" {
                    fault = "true";
                }
                tool(&host, name, &fault.replace("{good}", good));
            }
        }
        let refuses = fastrand::bool();
        if refuses {
            proxy.set(Traffic::DiskFull);
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..300))).await;
            proxy.set(Traffic::Flows);
        }
        let before = calls(&host);
        eventually(CONVERGED_BY, "two observations of each cluster", || async {
            calls(&host) >= before + 18
        })
        .await;
        for (name, good) in TOOLS {
            tool(&host, name, good);
        }
        // A lease whose release was rejected lasts for its 15 s.
        eventually(CONVERGED_BY, "the other rows settled", || async {
            sql.number(&format!("{UNSETTLED} AND desired_state <> 'absent'"))
                .await
                == 0
        })
        .await;
        let rows = sql.number("SELECT count(*) FROM clusters").await;
        assert_eq!(rows, 9, "a row was removed although its cluster exists");
    }
    let journal = host.journal();
    let deleted = journal
        .iter()
        .filter(|entry| entry.verb == "delete" && !LEAVING.contains(&entry.name.as_str()))
        .count();
    assert_eq!(deleted, 0, "{journal:#?}");
    for name in LEAVING {
        assert!(host.cluster(name).is_some());
        host.release(&format!("{name}.delete"));
    }
    sql.run("UPDATE clusters SET retry_requested_at = now()")
        .await;
    sql.wait_number("SELECT count(*) FROM clusters", 7).await;
    converged(&sql, &host).await;
    report(
        "observations that fail, are empty or cut off, and refused statements",
        &format!("{trials} trials over 9 clusters, 0 deletions, 0 rows lost"),
    );
}
