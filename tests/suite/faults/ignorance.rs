//! Looks that fail, come back empty, cut short or as nonsense, and a database
//! that refuses to answer: ignorance, which deletes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::{CONVERGED_BY, UNSETTLED, converged, migrated, number, report, rounds, run};
use crate::kit::{Daemon, Host, Proxy, Traffic, eventually};

const SOON: Duration = Duration::from_secs(30);

/// What `kubectl get nodes` says of the cluster whose context it is given.
const KUBECTL: &str = r#"name=${2#*-}
    if grep -qx healthy "$here/world/$name" 2>/dev/null; then echo NAME STATUS; else echo refused >&2; exit 1; fi"#;
const K3D: &str = r#"list=
    for name in $(ls "$here/world" | grep ^k3d); do list="$list,{\"name\":\"$name\",\"serversCount\":1,\"serversRunning\":$(grep -c healthy "$here/world/$name")}"; done
    echo "[${list#,}]""#;
const KIND: &str = r#"ls "$here/world" | grep ^kind || echo 'No kind clusters found.' >&2"#;
const DOCKER: &str = r#"case "$*" in *inspect*) name=${4%-control-plane}
    if grep -qx healthy "$here/world/$name"; then echo running; else echo exited; fi ;; esac"#;

/// How a tool may fail to tell; `{good}` is what it would say.
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

/// Puts a tool into the daemon's path; every call is counted.
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

/// Wanted gone in vain.
const LEAVING: [&str; 2] = ["k3d-4", "kind-4"];

fn calls(host: &Host) -> u64 {
    fs::metadata(host.path().join("calls")).map_or(0, |calls| calls.len())
}

#[tokio::test]
async fn looks_that_tell_nothing_delete_nothing() {
    let (database, host) = (migrated().await, Host::new());
    fs::create_dir(host.path().join("bin")).unwrap();
    for (name, good) in TOOLS {
        tool(&host, name, good);
    }
    let sql = database.connect().await;
    let proxy = Proxy::before(&database).await;
    let path = format!("{}:/usr/bin:/bin", host.path().join("bin").display());
    let daemon = Daemon::with_defaults(&proxy.url(), &host)
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
        .spawn();
    daemon.ready().await;
    run(
        &sql,
        "INSERT INTO clusters (name, provider) SELECT p || '-' || n, p FROM generate_series(1, 4) n, unnest('{k3d,kind}'::text[]) p;
         INSERT INTO clusters (name, provider, desired_state) VALUES ('k3d-still', 'k3d', 'stopped')",
    )
    .await;
    converged(&sql, &host).await;
    // Two are wanted gone, but their deletes fail: all that keeps their rows is
    // that they are seen.
    for name in LEAVING {
        host.control(&format!("{name}.delete"), "exit 1");
    }
    run(
        &sql,
        "UPDATE clusters SET desired_state = 'absent' WHERE name IN ('k3d-4', 'kind-4')",
    )
    .await;
    let trials = rounds(20, 200);
    for trial in 0..trials {
        for (name, good) in TOOLS {
            // At first each fault of all tools at once, then any of any.
            if trial < FAULTS.len() || fastrand::u8(..4) > 0 {
                let any = fastrand::usize(..FAULTS.len());
                let mut fault = *FAULTS.get(trial).unwrap_or(&FAULTS[any]);
                // To kind this is a cluster of that name, and a whole list.
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
        eventually(SOON, "two looks at each", || async {
            calls(&host) >= before + 18
        })
        .await;
        for (name, good) in TOOLS {
            tool(&host, name, good);
        }
        // A lease whose release was refused lives on for its 15 s.
        eventually(CONVERGED_BY, "the others to be as wanted", || async {
            number(&sql, &format!("{UNSETTLED} AND desired_state <> 'absent'")).await == 0
        })
        .await;
        let rows = number(&sql, "SELECT count(*) FROM clusters").await;
        assert_eq!(rows, 9, "a row went whose cluster is there");
    }
    let journal = host.journal();
    let deleted = journal
        .iter()
        .filter(|entry| entry.verb == "delete" && !LEAVING.contains(&entry.name.as_str()))
        .count();
    assert_eq!(deleted, 0, "{journal:#?}");
    for name in LEAVING {
        assert!(host.world(name).is_some());
        host.release(&format!("{name}.delete"));
    }
    run(&sql, "UPDATE clusters SET retry_requested_at = now()").await;
    eventually(SOON, "the two to go", || async {
        number(&sql, "SELECT count(*) FROM clusters").await == 7
    })
    .await;
    converged(&sql, &host).await;
    report(
        "looks that fail, are empty or cut, and refused statements",
        &format!("{trials} trials over 9 clusters, 0 deletions, 0 rows lost"),
    );
}
