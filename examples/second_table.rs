//! Kindler's controller over a table that is not `clusters`: rows of `folders`
//! become folders on disk. Wake-ups, retries, resync, one-at-a-time and
//! shutdown come from the library; only "what is due" and "one pass" are here.
//!
//! ```text
//! cargo run --example second_table -- postgresql://me@localhost/scratch /tmp/folders
//! psql ... -c "INSERT INTO folders (name) VALUES ('photos')"
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kindler::core::controller::{Controller, ControllerSettings, Finished, Reconciler, Turn};
use kindler::core::database::Database;
use kindler::core::listener::{Listener, Listening};
use kindler::core::wakeups::WakeupQueue;
use kindler::metrics::Metrics;
use tokio::sync::watch;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS folders (
        name text PRIMARY KEY, wanted boolean NOT NULL DEFAULT true, made boolean NOT NULL DEFAULT false);
    CREATE INDEX IF NOT EXISTS folders_due ON folders (name) WHERE wanted <> made;
    CREATE OR REPLACE FUNCTION folders_ring() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_notify('folders', NEW.name); RETURN NULL; END $$;
    DROP TRIGGER IF EXISTS folders_ring ON folders;
    CREATE TRIGGER folders_ring AFTER INSERT OR UPDATE OF wanted ON folders
        FOR EACH ROW EXECUTE FUNCTION folders_ring()";

struct Folders {
    client: Client,
    root: PathBuf,
}

#[async_trait]
impl Reconciler for Folders {
    type Error = tokio_postgres::Error;

    fn name(&self) -> &'static str {
        "folder"
    }

    async fn due(
        &self,
        _horizon: Duration,
        limit: usize,
    ) -> Result<Vec<(String, Duration)>, Self::Error> {
        let sql = "SELECT name FROM folders WHERE wanted <> made ORDER BY name LIMIT $1";
        let rows = self.client.query(sql, &[&(limit as i64)]).await?;
        Ok(rows
            .iter()
            .map(|row| (row.get(0), Duration::ZERO))
            .collect())
    }

    async fn reconcile(&self, key: &str, _turn: &Turn) -> Result<Finished, Self::Error> {
        let sql = "SELECT wanted FROM folders WHERE name = $1";
        let Some(row) = self.client.query_opt(sql, &[&key]).await? else {
            return Ok(Finished::Settled(None));
        };
        let wanted: bool = row.get(0);
        // Observe, act, observe again: what is written is what is there.
        let path = self.root.join(key);
        let acted = match (wanted, path.is_dir()) {
            (true, false) => std::fs::create_dir(&path),
            (false, true) => std::fs::remove_dir(&path),
            (true, true) | (false, false) => Ok(()),
        };
        if let Err(error) = acted {
            println!("{key}: {error}; trying again");
            return Ok(Finished::Failed(Duration::from_secs(1)));
        }
        let made = path.is_dir();
        // The guard keeps a wish that changed meanwhile from being overwritten.
        let sql = "UPDATE folders SET made = $2 WHERE name = $1 AND wanted = $3 AND made <> $2";
        if self.client.execute(sql, &[&key, &made, &wanted]).await? > 0 {
            println!("{key}: {}", if made { "made" } else { "removed" });
        }
        Ok(Finished::Settled(None))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, url, root] = &args[..] else {
        anyhow::bail!("usage: second_table DATABASE_URL FOLDER");
    };
    let root = PathBuf::from(root);
    std::fs::create_dir_all(&root)?;
    let database = Database::parse(url)?;
    let client = database.connect().await?;
    client.batch_execute(SCHEMA).await?;

    let shutdown = CancellationToken::new();
    let (wakeups, metrics) = (WakeupQueue::default(), Metrics::new());
    let (state, _) = watch::channel(Listening::No("starting".into()));
    let listener = Listener::new(database, "folders".into(), wakeups.clone(), state);
    let folders = Arc::new(Folders { client, root });
    let controller = Controller::new(
        folders,
        ControllerSettings {
            resync: Duration::from_secs(5),
            ..ControllerSettings::default()
        },
        wakeups,
        metrics.controller("folder"),
    );
    let listening = tokio::spawn(listener.run(shutdown.clone()));
    let controlling = tokio::spawn(controller.run(shutdown.clone()));
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    tokio::try_join!(listening, controlling)?;
    Ok(())
}
