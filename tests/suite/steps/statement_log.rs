//! The statements that the daemon and the core send to Postgres, read from the server's
//! log.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use kindler::core::table::{Statements, Table};

use crate::kit::{Database, PrivateServer, Sql};

/// A server that logs every statement, and a migrated database on it.
pub struct LoggingDatabase {
    pub database: Database,
    log: PathBuf,
    names: BTreeMap<String, &'static str>,
}

impl LoggingDatabase {
    /// Names the statements of `table`; other statements are named by their first line.
    pub async fn new(table: &Table) -> Self {
        let server = PrivateServer::create().await;
        let database = server.database().await.migrate().await;
        for setting in [
            "log_line_prefix = '%a|%d|'",
            "log_statement = 'all'",
            "log_parameter_max_length = 0",
        ] {
            database.run(&format!("ALTER SYSTEM SET {setting}")).await;
        }
        database.run("SELECT pg_reload_conf()").await;
        let shown = "SHOW log_statement";
        crate::kit::eventually(
            super::rig::STEPS_TIMEOUT,
            "the log settings to take effect",
            || async { database.value::<String>(shown).await == "all" },
        )
        .await;
        let all = Statements::of(table);
        let names = [
            (all.claim, "claim"),
            (all.claim_several, "claim several"),
            (all.renew, "renew"),
            (all.release, "release"),
            (all.due, "due"),
            (all.write_status, "write"),
            (all.write_statuses, "write several"),
            (all.advance_steps, "advance"),
            (all.remove, "remove"),
        ];
        let names = names.map(|(text, name)| (text.trim().to_owned(), name));
        Self {
            log: server.socket_dir().with_file_name("postgres.log"),
            database,
            names: names.into(),
        }
    }

    /// The present length of the log.
    pub fn end(&self) -> usize {
        fs::read(&self.log).unwrap().len()
    }

    /// How often each statement of Kindler was executed in this part of the log.
    pub fn counts(&self, from: usize, to: usize) -> BTreeMap<String, usize> {
        let text = fs::read(&self.log).unwrap();
        let text = String::from_utf8_lossy(&text[from..to]).into_owned();
        let mine = format!("kindler|{}|LOG:  execute ", self.database.name());
        let mut counts = BTreeMap::new();
        // A continued line begins with a tab.
        for entry in text.replace("\n\t", "\u{1}").lines() {
            let Some((_, sql)) = entry
                .strip_prefix(&mine)
                .and_then(|rest| rest.split_once(": "))
            else {
                continue;
            };
            let sql = sql.replace('\u{1}', "\n");
            let first = || sql.lines().next().unwrap_or_default().to_owned();
            let name = self
                .names
                .get(sql.trim())
                .map_or_else(first, |name| (*name).to_owned());
            *counts.entry(name).or_default() += 1;
        }
        counts
    }
}
