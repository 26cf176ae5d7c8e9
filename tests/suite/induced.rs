//! Induces the faults that docs/FAULTS.md lists, one after the other, looks at each as a new
//! user would, with one command, and prints cause and next step: `make faults`.
//!
//! It is a report and takes some minutes, so it does not run with the other tests. It fails if
//! a fault is not explained within its time.

mod commands;
mod database;
mod hosts;

use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::kit::{Daemon, DaemonBuilder, Database, Host, kindler, migrated};

/// How long a fault may stay unexplained: 15 s, and the time of the last look.
const WITHIN: Duration = Duration::from_secs(16);

/// What one command has shown of a fault.
struct Explained {
    command: String,
    after: Duration,
    cause: Option<String>,
    next: Option<String>,
    /// Where else the cause is: `/readyz`, a metric of findings, the row. None: no daemon is left
    /// that could say it.
    elsewhere: Option<Vec<&'static str>>,
}

/// Words of which one must be in the line of the cause, and in that of the next step.
struct Words {
    cause: &'static [&'static str],
    next: &'static [&'static str],
}

/// A daemon with its database and host.
struct Site {
    // Dropped first: it uses the rest.
    daemon: Option<Daemon>,
    host: Host,
    sql: Client,
    database: Database,
}

impl Site {
    /// With a daemon that has these settings, and is ready.
    async fn new(settings: impl FnOnce(DaemonBuilder) -> DaemonBuilder) -> Self {
        let mut site = Self::without_daemon().await;
        let builder = Daemon::builder(&site.database.url(), &site.host);
        site.daemon = Some(settings(builder).start().await);
        site
    }

    async fn without_daemon() -> Self {
        let (database, host) = (migrated().await, Host::new());
        let sql = database.connect().await;
        Self {
            daemon: None,
            host,
            sql,
            database,
        }
    }

    async fn look(&self, args: &[&str], words: &Words) -> Explained {
        self.look_as(&self.database.url(), args, words).await
    }

    /// The same with another login, and what else shows the cause.
    async fn look_as(&self, url: &str, args: &[&str], words: &Words) -> Explained {
        let mut explained = look(url, &self.host, args, words).await;
        let Some(daemon) = &self.daemon else {
            return explained;
        };
        let began = Instant::now();
        let found = loop {
            let found = self.elsewhere(daemon, words).await;
            if !found.is_empty() || began.elapsed() > WITHIN {
                break found;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        explained.elsewhere = Some(found);
        explained
    }

    async fn elsewhere(&self, daemon: &Daemon, words: &Words) -> Vec<&'static str> {
        let shows = |text: &str| {
            let text = text.to_lowercase();
            let mut words = words.cause.iter();
            words.any(|word| text.contains(&word.to_lowercase()))
        };
        let mut found = Vec::new();
        if let Some((_, body)) = daemon.get("/readyz").await
            && shows(&body)
        {
            found.push("/readyz");
        }
        let metrics = daemon.get("/metrics").await.unwrap_or_default().1;
        let finding = |line: &str| {
            let is_one = line.starts_with("kindler_finding{") && line.ends_with(" 1");
            is_one && !line.contains("DurabilityOff")
        };
        if metrics.lines().any(finding) {
            found.push("metric");
        }
        // The database may be what is at fault.
        let texts = "SELECT coalesce(string_agg(concat_ws(' ', status_message, reconcile_error), ' '), '') FROM clusters";
        let read = self.sql.query_one(texts, &[]);
        let read = tokio::time::timeout(Duration::from_secs(2), read).await;
        if let Ok(Ok(row)) = read
            && shows(row.get(0))
        {
            found.push("row");
        }
        found
    }
}

/// Runs one command until it shows cause and next step, as a person who repeats it.
async fn look(url: &str, host: &Host, args: &[&str], words: &Words) -> Explained {
    let began = Instant::now();
    loop {
        let mut command = kindler(url, host);
        command.args(args);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let text =
            [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        let text = text.concat();
        let line = |words: &[&str]| {
            let has = |line: &&str| {
                words
                    .iter()
                    .any(|word| line.to_lowercase().contains(&word.to_lowercase()))
            };
            // The tests' server is not durable, and says so.
            let mut lines = text.lines().filter(|line| !line.contains("DurabilityOff"));
            lines.find(has).map(|line| line.trim().to_owned())
        };
        let explained = Explained {
            command: format!("kindler {}", args.join(" ")),
            after: began.elapsed(),
            cause: line(words.cause),
            next: line(words.next),
            elsewhere: None,
        };
        if explained.cause.is_some() && explained.next.is_some() || began.elapsed() > WITHIN {
            if explained.cause.is_none() || explained.next.is_none() {
                println!("--- {}\n{text}---", explained.command);
            }
            return explained;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

type Looking = Pin<Box<dyn Future<Output = Explained> + Send>>;
/// A name, and how it is induced and looked at.
type Fault = (&'static str, fn() -> Looking);

/// The faults of issue 14, in its order.
fn faults() -> Vec<Fault> {
    vec![
        ("create script not executable", || {
            Box::pin(commands::not_executable())
        }),
        ("no interpreter", || Box::pin(commands::no_interpreter())),
        ("command hangs", || Box::pin(commands::hangs())),
        ("exit 0 without a cluster", || {
            Box::pin(commands::creates_nothing())
        }),
        ("secret and 100 MB of output", || {
            Box::pin(commands::much_output())
        }),
        ("probe missing", || Box::pin(commands::probe_missing())),
        (
            "more than half silent",
            || Box::pin(commands::half_silent()),
        ),
        ("all silent", || Box::pin(commands::all_silent())),
        ("Postgres killed", || Box::pin(database::killed())),
        (
            "password changed",
            || Box::pin(database::password_changed()),
        ),
        ("connections used up", || {
            Box::pin(database::connections_used_up())
        }),
        ("table locked", || Box::pin(database::table_locked())),
        ("newer schema", || Box::pin(database::newer_schema())),
        ("grant missing", || Box::pin(database::grant_missing())),
        ("state folder full", || Box::pin(hosts::folder_full())),
        ("port taken", || Box::pin(commands::port_taken())),
        ("triggers off", || Box::pin(database::triggers_off())),
        ("pooler", || Box::pin(database::pooler())),
        ("two daemons with other scripts", || {
            Box::pin(hosts::daemons_differ())
        }),
        ("bad row", || Box::pin(database::bad_row())),
        ("clock off by an hour", || Box::pin(hosts::clock_off())),
        ("state folder of another user", || {
            Box::pin(hosts::folder_foreign())
        }),
        ("cluster flaps", || Box::pin(commands::flaps())),
        ("1,000 deletions", || Box::pin(database::deletion_wave())),
        (
            "kill -9 in a create",
            || Box::pin(hosts::killed_in_create()),
        ),
    ]
}

/// Part of a line that fits into the table.
fn short(line: &Option<String>) -> String {
    let text = line.as_deref().unwrap_or("**not shown**");
    text.replace('|', "/").chars().take(300).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a report of some minutes: make faults"]
async fn every_fault_shows_its_cause_and_the_next_step() {
    let mut table = String::from(
        "| fault | command | after | cause | next step | also in |\n|---|---|---|---|---|---|\n",
    );
    let mut unexplained = Vec::new();
    let only = std::env::var("FAULT").unwrap_or_default();
    for (name, fault) in faults()
        .into_iter()
        .filter(|(name, _)| name.contains(&only))
    {
        println!("{name}");
        let Ok(found) = tokio::spawn(fault()).await else {
            let _ = writeln!(table, "| {name} | | | **not induced** | | |");
            unexplained.push(name);
            continue;
        };
        let silent = found.elsewhere.as_ref().is_some_and(Vec::is_empty);
        if found.cause.is_none() || found.next.is_none() || silent {
            unexplained.push(name);
        }
        let elsewhere = found.elsewhere.as_deref().unwrap_or_default().join(", ");
        let Explained { command, after, .. } = &found;
        let (cause, next) = (short(&found.cause), short(&found.next));
        let _ = writeln!(
            table,
            "| {name} | `{command}` | {:.1} s | {cause} | {next} | {elsewhere} |",
            after.as_secs_f64()
        );
    }
    println!("\n{table}");
    if let Some(path) = std::env::var_os("FAULTS_REPORT") {
        std::fs::write(path, &table).unwrap();
    }
    assert!(unexplained.is_empty(), "not explained: {unexplained:?}");
}
