//! The daemon end to end: the real binary, real Postgres, real commands. The tests
//! check the rows and the journal that the commands write.

mod desired_state;
mod failover;
mod foreign;
mod health;
mod lifecycle;
mod matrix;
mod outage;
mod ownership;
mod pooler;
mod retries;
mod safety_limits;
mod schema_versions;
mod scripts;
mod selector;
mod tls;
mod waiting;
mod wakeups;

use tokio_postgres::Client;

use crate::kit::{Daemon, Database, Host, migrated};

/// A migrated database, a host, a daemon on both, and a superuser's session.
struct ReconcileRig {
    // Dropped first: it uses the other fields.
    daemon: Daemon,
    host: Host,
    sql: Client,
    database: Database,
}

async fn rig() -> ReconcileRig {
    rig_on(Host::new()).await
}

async fn rig_on(host: Host) -> ReconcileRig {
    let database = migrated().await;
    let daemon = Daemon::start(&database, &host).await;
    let sql = database.connect().await;
    ReconcileRig {
        daemon,
        host,
        sql,
        database,
    }
}
