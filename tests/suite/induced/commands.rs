//! Faults of commands and clusters.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{Explained, Site, Words};
use crate::kit::Sql;

const STATUS: &[&str] = &["status"];

async fn failing(site: &Site, words: Words) -> Explained {
    site.sql.declare("dev").await;
    site.look(STATUS, &words).await
}

pub(super) async fn not_executable() -> Explained {
    let site = Site::new(|daemon| daemon).await;
    let script = site.host.command("create");
    fs::set_permissions(script, fs::Permissions::from_mode(0o644)).unwrap();
    let words = Words {
        cause: &["not executable"],
        next: &["chmod +x"],
    };
    failing(&site, words).await
}

pub(super) async fn no_interpreter() -> Explained {
    let site = Site::new(|daemon| daemon).await;
    fs::write(site.host.command("create"), "#!/no/such/bash\n").unwrap();
    let words = Words {
        cause: &["/no/such/bash"],
        next: &["install", "correct", "next:"],
    };
    failing(&site, words).await
}

pub(super) async fn hangs() -> Explained {
    let site = Site::new(|daemon| daemon.set("KINDLER_CREATE_DEADLINE", "2s")).await;
    site.host
        .control("create", "echo pulling an image; sleep 600");
    let words = Words {
        cause: &["deadline"],
        next: &["KINDLER_CREATE_DEADLINE"],
    };
    failing(&site, words).await
}

pub(super) async fn creates_nothing() -> Explained {
    let site = Site::new(|daemon| daemon).await;
    site.host.control("create", "exit 0");
    let words = Words {
        cause: &["reported success"],
        next: &["kindler logs", "next:"],
    };
    failing(&site, words).await
}

pub(super) async fn much_output() -> Explained {
    let site = Site::new(|daemon| daemon).await;
    let output = "echo password=hunter2-of-the-test; head -c 100000000 /dev/zero | tr '\\0' x | fold -w 1000; echo; echo no space for the image >&2; exit 1";
    site.host.control("create", output);
    site.sql.declare("dev").await;
    let words = Words {
        cause: &["no space for the image"],
        next: &["kindler logs", "next:"],
    };
    let mut found = site.look(STATUS, &words).await;
    let logs = site
        .look(
            &["logs", "dev"],
            &Words {
                cause: &["no space for the image"],
                next: &[""],
            },
        )
        .await;
    let told = [&found.cause, &found.next, &logs.cause]
        .into_iter()
        .flatten();
    if told.into_iter().any(|line| line.contains("hunter2")) {
        found.cause = None;
    }
    found
}

pub(super) async fn probe_missing() -> Explained {
    let site = Site::new(|daemon| daemon).await;
    site.sql.declare("dev").await;
    site.sql.wait_state("dev", "present running").await;
    fs::remove_file(site.host.command("probe")).unwrap();
    let words = Words {
        cause: &["probe.sh does not exist"],
        next: &["correct KINDLER_PROBE_COMMAND"],
    };
    site.look(STATUS, &words).await
}

async fn silent(silent: usize, of: usize) -> Explained {
    let site = Site::new(|daemon| daemon.set("KINDLER_REPAIR_SUSPENSION", "5m")).await;
    site.sql.declare_many("c", of).await;
    let running = "SELECT count(*) FROM clusters WHERE actual_state = 'running'";
    site.sql.wait_number(running, of as i64).await;
    for n in 1..=silent {
        site.host.set_cluster(&format!("c{n}"), Some("unhealthy"));
    }
    let words = Words {
        cause: &["do not answer", "suspended", "deferred"],
        next: &["next:", "container runtime", "retry"],
    };
    site.look(STATUS, &words).await
}

pub(super) async fn half_silent() -> Explained {
    silent(5, 8).await
}

pub(super) async fn all_silent() -> Explained {
    silent(8, 8).await
}

pub(super) async fn port_taken() -> Explained {
    let site = Site::new(|daemon| daemon).await;
    let fails = r#"[ "$name" = other ] && { echo "port 18200 is already allocated" >&2; exit 1; }"#;
    site.host.control("create", fails);
    let declare = "INSERT INTO clusters (name, provider, http_port) VALUES ('dev', 'k3d', 18200), ('other', 'k3d', 18200)";
    site.sql.run(declare).await;
    let words = Words {
        cause: &["is also declared by"],
        next: &["SET http_port = DEFAULT"],
    };
    site.look(STATUS, &words).await
}

pub(super) async fn flaps() -> Explained {
    let site = Site::new(|daemon| daemon).await;
    // Another cluster is healthy, so that repairs are not suspended.
    site.sql.declare_many("well-", 3).await;
    site.sql.declare("dev").await;
    for lost in 1..=5 {
        site.sql.wait_state("dev", "present running").await;
        site.host.set_cluster("dev", Some("unhealthy"));
        let noticed = "SELECT count(*) FROM cluster_events
            WHERE cluster_name = 'dev' AND reason = 'HealthLost'";
        site.sql.wait_number(noticed, lost).await;
    }
    let words = Words {
        cause: &["flapping"],
        next: &["kindler events", "next:"],
    };
    site.look(STATUS, &words).await
}
