//! The database and the daemons on it.

use std::time::Duration;

use jiff::Timestamp;

use super::{CheckState, DoctorReport};
use crate::cause::chain;
use crate::cli::text;
use crate::config::{Connection, HEARTBEAT};
use crate::core::database::{Database, DatabaseError, hands_sessions_around};
use crate::daemon::{database_findings, lasting};
use crate::findings::FindingCode;
use crate::store::{DatabaseUser, ReplicaStatus, SCHEMA_VERSION, ServerFacts, Store, newer_schema};

const GROUP: &str = "database";

/// How long the comparison of two sessions may take.
const COMPARED_WITHIN: Duration = Duration::from_secs(5);

/// Fewer connections than this are few.
const FEW_CONNECTIONS: i32 = 10;

/// Checks the database, and returns its daemons.
pub(super) async fn check(
    report: &mut DoctorReport,
    connection: &Connection,
) -> Vec<ReplicaStatus> {
    let database = match connection.database() {
        Ok(database) => database,
        Err(error) => {
            let hint = error.hint().unwrap_or_default();
            report.fail(GROUP, "url", error.to_string(), hint);
            return Vec::new();
        }
    };
    // With a second connection the sessions that hold a lock are looked up.
    let store = Store::new(&database, 2, "doctor");
    let facts = match store.server_facts().await {
        Ok(Some(facts)) => facts,
        Ok(None) => return Vec::new(),
        Err(error) => {
            let next =
                "check KINDLER_DATABASE_URL, that Postgres runs, and that it accepts the login";
            report.fail(GROUP, "connection", chain(&error), next);
            return Vec::new();
        }
    };
    report.fine(GROUP, "connection", format!("{database} answers"));
    server(report, &facts);
    pooler(report, &database).await;
    role(report, &facts);
    match schema(report, &store, &facts).await {
        Ok(()) => daemons(report, &store).await,
        Err(error) => {
            let finding = lasting(&store, &error).await;
            report.finding(GROUP, &finding);
            Vec::new()
        }
    }
}

fn server(report: &mut DoctorReport, facts: &ServerFacts) {
    report.fine(GROUP, "version", format!("PostgreSQL {}", facts.version));
    match (facts.tls, facts.local) {
        (true, _) => report.fine(GROUP, "tls", "the connection is encrypted"),
        (false, true) => report.fine(GROUP, "tls", "the connection stays on this host"),
        (false, false) => report.warn(
            GROUP,
            "tls",
            "the connection to another host is not encrypted",
            "add sslmode=verify-full to the URL, and set up TLS on the server",
        ),
    }
    if facts.read_only {
        report.fail(
            GROUP,
            "writes",
            "the server takes no writes: it is a standby, or set to read only",
            "name the primary, or all servers of the database, in KINDLER_DATABASE_URL",
        );
    } else {
        report.fine(GROUP, "writes", "the server takes writes");
    }
    let left = facts.allowed - facts.used;
    let found = format!("{left} of {} connections are left", facts.allowed);
    match left < FEW_CONNECTIONS {
        true => report.warn(
            GROUP,
            "connections",
            found,
            "raise max_connections, or end idle sessions (pg_stat_activity)",
        ),
        false => report.fine(GROUP, "connections", found),
    }
    if let Some(lag) = facts.lag.filter(|lag| *lag > 30.0) {
        report.warn(
            GROUP,
            "replication",
            format!("a standby is {lag:.0} s behind"),
            "a failover now would lose these commits: check pg_stat_replication",
        );
    } else if facts.standbys > 0 {
        let found = format!("{} standbys follow closely", facts.standbys);
        report.fine(GROUP, "replication", found);
    } else {
        report.fine(GROUP, "replication", "this role sees no standby");
    }
}

/// Whether sessions are handed to several clients: then notifications do not arrive.
async fn pooler(report: &mut DoctorReport, database: &Database) {
    let compared = async {
        let (first, second) = (database.connect().await?, database.connect().await?);
        hands_sessions_around(&first, &second).await
    };
    match tokio::time::timeout(COMPARED_WITHIN, compared).await {
        Ok(Ok(false)) => report.fine(GROUP, "pooler", "sessions belong to their connections"),
        Ok(Ok(true)) => report.warn(
            GROUP,
            "pooler",
            "a pooler assigns sessions for each transaction, so notifications do not arrive",
            "connect to the server itself, or in session mode",
        ),
        Ok(Err(error)) => {
            let why = format!("cannot be checked: {}", chain(&error));
            report.warn(
                GROUP,
                "pooler",
                why,
                "check that two further connections are free",
            );
        }
        Err(_) => report.warn(
            GROUP,
            "pooler",
            format!("cannot be checked within {COMPARED_WITHIN:?}"),
            "check the load of the server, and what is between it and this host",
        ),
    }
}

fn role(report: &mut DoctorReport, facts: &ServerFacts) {
    let role = &facts.role;
    match (facts.superuser, facts.roles.is_empty()) {
        (true, _) => report.warn(
            GROUP,
            "role",
            format!("{role} is a superuser"),
            "sql/roles.sql creates roles with least privilege; use a login in kindler_daemon",
        ),
        (false, true) => report.fine(
            GROUP,
            "role",
            format!("{role}, in no role of sql/roles.sql"),
        ),
        (false, false) => {
            let found = format!("{role}, a member of {}", facts.roles.join(", "));
            report.fine(GROUP, "role", found);
        }
    }
}

/// Who this login is: of a login in one of the roles no more is expected than the role has. The
/// daemon checks its own login.
fn user(facts: &ServerFacts) -> DatabaseUser {
    let is_in = |role: &str| facts.roles.iter().any(|one| one == role);
    match (is_in("kindler_api"), is_in("kindler_daemon")) {
        (true, _) => DatabaseUser::Api,
        (false, true) => DatabaseUser::Daemon,
        (false, false) if is_in("kindler_reader") => DatabaseUser::Reader,
        (false, false) => DatabaseUser::Api,
    }
}

async fn schema(
    report: &mut DoctorReport,
    store: &Store,
    facts: &ServerFacts,
) -> Result<(), DatabaseError> {
    let version = store.check().await?;
    match newer_schema(version) {
        None => report.fine(GROUP, "schema", format!("version {version}")),
        Some(newer) => report.fail(
            GROUP,
            "schema",
            newer.to_string(),
            format!("use the newer release; this one knows version {SCHEMA_VERSION}"),
        ),
    }
    let asked = Timestamp::now();
    let Some(ground) = store.ground(user(facts)).await? else {
        return Ok(());
    };
    let before = report.checks.len();
    let apart = ground.read_at.duration_since(asked).as_secs_f64();
    for finding in database_findings(&ground) {
        let foreign = finding.code == FindingCode::PrivilegeMissing;
        report.finding(GROUP, &finding);
        if foreign && let Some(check) = report.checks.last_mut() {
            // A login with its own grants may need less.
            check.state = CheckState::Warning;
        }
    }
    if report.checks.len() == before {
        report.fine(
            GROUP,
            "objects",
            "triggers, constraints, functions, privileges, encoding and durability are as needed",
        );
    }
    match store.counts().await {
        Ok(_) => report.fine(GROUP, "clusters", "can be read"),
        Err(error) => {
            let finding = lasting(store, &error).await;
            report.finding(GROUP, &finding);
        }
    }
    match apart.abs() > 5.0 {
        true => report.warn(
            GROUP,
            "clock",
            format!("the database's clock is {apart:.0} s ahead of this host's"),
            "synchronize both clocks (timedatectl, chronyc tracking)",
        ),
        false => report.fine(GROUP, "clock", "less than 5 s apart from this host's"),
    }
    Ok(())
}

/// The daemons, with what each has found.
async fn daemons(report: &mut DoctorReport, store: &Store) -> Vec<ReplicaStatus> {
    const GROUP: &str = "daemons";
    let replicas = match store.replicas().await {
        Ok(replicas) => replicas,
        Err(error) => {
            let next = "use a login in the role kindler_reader, kindler_api or kindler_daemon";
            report.fail(GROUP, "list", chain(&error), next);
            return Vec::new();
        }
    };
    let alive: Vec<_> = replicas.iter().filter(|one| one.alive(HEARTBEAT)).collect();
    if alive.is_empty() {
        let next = "systemctl start kindler, or kindler serve";
        report.fail(GROUP, "running", "no daemon is running", next);
    }
    for one in &alive {
        let name = format!("{} pid {}", text::line(&one.host), one.pid);
        let version = &one.version;
        if one.standby {
            report.fail(
                GROUP,
                &name,
                format!("on standby: the schema is newer than its release {version}"),
                "start the release that the schema belongs to there",
            );
        } else if !one.listening {
            let why = one
                .notice
                .as_deref()
                .unwrap_or("it does not receive notifications");
            let next = "`kindler status`, and /readyz of that daemon, say why";
            report.warn(GROUP, &name, why, next);
        } else {
            report.fine(GROUP, &name, format!("version {version}, listening"));
        }
        for finding in &one.findings {
            report.finding(GROUP, finding);
        }
    }
    replicas
}
