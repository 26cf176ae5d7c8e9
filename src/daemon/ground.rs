//! Checks at each heartbeat what Kindler stands on in its database, and words what is wrong
//! as findings. What a restart or another server can mend is no finding but an error.

use jiff::{SignedDuration, Timestamp};

use crate::cause::chain;
use crate::core::database::DatabaseError;
use crate::duration::compact;
use crate::findings::{Finding, FindingCode};
use crate::store::{Damage, DatabaseGround, DatabaseUser, ObjectKind, SchemaWithTables, Store};

/// How far the clocks of host and database may be apart.
const CLOCKS_APART: SignedDuration = SignedDuration::from_secs(5);

/// How many objects a finding names.
const NAMED: usize = 4;

/// The check of one process.
#[derive(Debug)]
pub(super) struct GroundCheck {
    user: DatabaseUser,
    /// The schema at the first check: its channels have its name.
    schema: Option<String>,
}

/// The result of one check.
#[derive(Debug, Default)]
pub(super) struct CheckedGround {
    pub(super) found: Vec<Finding>,
    /// How far the database's clock is ahead of the host's.
    pub(super) clock_offset: Option<SignedDuration>,
}

impl GroundCheck {
    pub(super) fn new(user: DatabaseUser) -> Self {
        Self { user, schema: None }
    }

    /// Checks it. With `newer_schema`, the objects are those of another release.
    pub(super) async fn check(
        &mut self,
        store: &Store,
        newer_schema: bool,
    ) -> Result<CheckedGround, DatabaseError> {
        let asked_at = Timestamp::now();
        let Some(mut ground) = store.ground(self.user).await? else {
            return Ok(CheckedGround::default());
        };
        let clock = ClockOffset::between(asked_at, ground.read_at, Timestamp::now());
        if newer_schema {
            ground.differing.clear();
            ground.missing.clear();
        }
        let was = self.schema.get_or_insert_with(|| ground.schema.clone());
        let mut found = database_findings(&ground);
        if *was != ground.schema {
            found.push(Finding::new(
                FindingCode::SchemaDamaged,
                format!(
                    "the schema {was} was renamed to {} while this process runs; it still listens \
                     on the channels of {was}, so only full passes find changes",
                    ground.schema
                ),
                "`kindler migrate`, then restart this process",
            ));
        }
        found.extend(clock.finding());
        Ok(CheckedGround {
            found,
            clock_offset: Some(clock.offset),
        })
    }
}

/// How far the database's clock is ahead, and how exactly that is known.
struct ClockOffset {
    offset: SignedDuration,
    within: SignedDuration,
}

impl ClockOffset {
    fn between(asked: Timestamp, read: Timestamp, answered: Timestamp) -> Self {
        let within = answered.duration_since(asked) / 2;
        Self {
            offset: read.duration_since(asked + within),
            within,
        }
    }

    fn finding(&self) -> Option<Finding> {
        if self.offset.abs() - self.within.abs() <= CLOCKS_APART {
            return None;
        }
        let by = compact(self.offset.unsigned_abs());
        let direction = match self.offset.is_negative() {
            true => "behind",
            false => "ahead of",
        };
        Some(Finding::new(
            FindingCode::ClockApart,
            format!("the database's clock is {by} {direction} this host's clock"),
            "synchronize both clocks (timedatectl, chronyc tracking); leases follow the \
             database's clock, the times of logs and alerts the host's",
        ))
    }
}

/// What is wrong with what was read of the database.
pub(crate) fn database_findings(ground: &DatabaseGround) -> Vec<Finding> {
    let mut found = Vec::new();
    let missing = ground.tables_missing();
    found.extend(missing.map(|(what, next)| Finding::new(FindingCode::SchemaDamaged, what, next)));
    found.extend(damage(ground));
    if !ground.triggers_fire {
        found.push(Finding::new(
            FindingCode::SchemaDamaged,
            "no trigger fires in the sessions of this role: session_replication_role is replica",
            format!(
                "ALTER ROLE {} RESET session_replication_role (or the same for the database)",
                ground.role
            ),
        ));
    }
    if !ground.hidden.is_empty() {
        let tables = ground.hidden.join(", ");
        found.push(Finding::new(
            FindingCode::RowsHidden,
            format!(
                "row-level security can hide rows of {tables} from {}",
                ground.role
            ),
            format!(
                "ALTER TABLE {} DISABLE ROW LEVEL SECURITY, or ALTER ROLE {} BYPASSRLS",
                ground.hidden[0], ground.role
            ),
        ));
    }
    if !ground.lacking.is_empty() {
        let lacking: Vec<_> = ground.lacking.iter().map(ToString::to_string).collect();
        found.push(Finding::new(
            FindingCode::PrivilegeMissing,
            format!("the role {} lacks {}", ground.role, named(&lacking)),
            format!(
                "as the owner of the tables: GRANT {} TO {}; sql/roles.sql gives the roles all \
                 that they need",
                lacking[0], ground.role
            ),
        ));
    }
    if ground.encoding != "UTF8" {
        found.push(Finding::new(
            FindingCode::EncodingLimited,
            format!(
                "the encoding of the database is {}: what it cannot hold is stored as ?",
                ground.encoding
            ),
            "move the tables to a database with ENCODING 'UTF8' (pg_dump, pg_restore)",
        ));
    }
    let off = [
        ("fsync", ground.fsync),
        ("full_page_writes", ground.full_page_writes),
    ];
    let off: Vec<_> = off
        .iter()
        .filter(|(_, on)| !on)
        .map(|(name, _)| *name)
        .collect();
    if !off.is_empty() {
        found.push(Finding::new(
            FindingCode::DurabilityOff,
            format!(
                "the server runs with {} = off: a crash of its machine can lose what it has \
                 acknowledged",
                off.join(" and ")
            ),
            format!(
                "ALTER SYSTEM SET {} = on, and reload the server (pg_reload_conf)",
                off[0]
            ),
        ));
    }
    found
}

/// What is wrong with the triggers, constraints and functions.
fn damage(ground: &DatabaseGround) -> Option<Finding> {
    let damaged: Vec<&Damage> = ground.damaged().collect();
    let first = damaged.first()?;
    let renamed = damaged.iter().find_map(|one| one.path.as_deref());
    let what = match renamed {
        Some(path) => format!(
            "the schema {} was renamed: {} functions still search {path}",
            ground.schema,
            damaged.iter().filter(|one| one.path.is_some()).count()
        ),
        None => {
            let objects: Vec<_> = damaged
                .iter()
                .map(|one| format!("{} is {}", one.object(), one.state))
                .collect();
            let guards = damaged.iter().any(|one| one.name.contains("guard_"));
            let effect = match guards {
                true => "; a DELETE can remove the row of a cluster that exists",
                false => "; what Kindler promises of these tables does not hold",
            };
            named(&objects) + effect
        }
    };
    let next = match (first.kind, damaged.len()) {
        (ObjectKind::Constraint, 1) => {
            "`kindler migrate` as the owner of the tables: it restores it, or says that rows break it"
        }
        _ => "`kindler migrate` as the owner of the tables: it restores them",
    };
    Some(Finding::new(FindingCode::SchemaDamaged, what, next))
}

/// The first of them, and how many more there are.
fn named(all: &[String]) -> String {
    let shown = all.len().min(NAMED);
    let more = match all.len() - shown {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    all[..shown].join(", ") + &more
}

/// An error that neither a restart nor another server mends, as a finding.
pub(crate) async fn lasting(store: &Store, error: &DatabaseError) -> Finding {
    let what = chain(error);
    match error {
        DatabaseError::Denied { .. } => Finding::new(
            FindingCode::PrivilegeMissing,
            what,
            "grant it as the owner of the tables, or run sql/roles.sql and use a login in the role \
             kindler_daemon (serve) or kindler_api (serve --api-only)",
        ),
        DatabaseError::NotMigrated { .. } => {
            let schemas = store.schemas_with_tables().await.unwrap_or_default();
            let (what, next) = missing_tables(&schemas);
            Finding::new(FindingCode::SchemaUnusable, what, next)
        }
        DatabaseError::SchemaTooOld { .. } => {
            Finding::new(FindingCode::SchemaUnusable, what, "`kindler migrate`")
        }
        _ => Finding::new(
            FindingCode::StatementRefused,
            what,
            "change what the message names; `kindler doctor` checks the database",
        ),
    }
}

/// Where the tables are if search_path does not find them.
fn missing_tables(schemas: &[SchemaWithTables]) -> (String, String) {
    match schemas.first() {
        None => (
            "the database has no Kindler tables".to_owned(),
            "check the URL of the database, or `kindler migrate`".to_owned(),
        ),
        Some(schema) if !schema.usable => (
            format!(
                "the role lacks USAGE on the schema {}, which has Kindler's tables",
                schema.name
            ),
            format!(
                "GRANT USAGE ON SCHEMA {} TO the role of this login",
                schema.name
            ),
        ),
        Some(schema) => (
            format!(
                "Kindler's tables are in the schema {}, which search_path does not name",
                schema.name
            ),
            format!(
                "ALTER ROLE … SET search_path = {}, or rename the schema back; then `kindler \
                 migrate`, and restart the daemons",
                schema.name
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_slow_answer_is_no_difference_of_clocks() {
        assert!(
            ClockOffset::between(at(100), at(109), at(110))
                .finding()
                .is_none()
        );
        let apart = ClockOffset::between(at(100), at(40), at(101)).finding();
        let apart = apart.unwrap();
        assert!(
            apart.what.contains("1m behind this host's clock"),
            "{apart}"
        );
        let ahead = ClockOffset::between(at(100), at(3_700), at(100)).finding();
        assert!(ahead.unwrap().what.contains("1h ahead of"));
    }

    #[test]
    fn long_lists_are_cut() {
        let all: Vec<String> = (0..6).map(|n| n.to_string()).collect();
        assert_eq!(named(&all), "0, 1, 2, 3 and 2 more");
    }
}
