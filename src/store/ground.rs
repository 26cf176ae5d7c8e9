//! What Kindler stands on in its database, read in one statement: its own triggers,
//! constraints and functions, row-level security, privileges, durability, encoding, clock.

use jiff::Timestamp;
use tokio_postgres::types::Type;
use tokio_postgres::{Row, Transaction};

use crate::core::database::{DatabaseError, Undecodable, column};

use super::Store;
use super::migrate::TABLES;
use super::objects::{Damage, DamageState, Objects, objects};
use super::privileges::{DatabaseUser, LackingPrivilege, NeededPrivileges};
use super::queries::{self, CheckGround};

/// What was read of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseGround {
    /// The schema of the tables.
    pub schema: String,
    /// The role of the session.
    pub role: String,
    /// The database's clock.
    pub read_at: Timestamp,
    /// The tables that do not exist.
    pub missing: Vec<String>,
    /// The objects that differ from what this release makes.
    pub differing: Vec<Damage>,
    /// The privileges that the role lacks.
    pub lacking: Vec<LackingPrivilege>,
    /// The tables of which row-level security can hide rows from this role.
    pub hidden: Vec<String>,
    /// The encoding of the database.
    pub encoding: String,
    /// Whether commits are written to the disk.
    pub fsync: bool,
    /// Whether a crash of the machine leaves no torn page.
    pub full_page_writes: bool,
    /// Whether triggers fire in this role's sessions.
    pub triggers_fire: bool,
}

/// A schema that has Kindler's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaWithTables {
    /// Its name.
    pub name: String,
    /// Whether this role may use it.
    pub usable: bool,
    /// Whether its functions still name another schema, as after a rename.
    pub renamed: bool,
}

impl DatabaseGround {
    /// The objects of this release that are missing, disabled or changed, in tables that exist.
    pub fn damaged(&self) -> impl Iterator<Item = &Damage> {
        let all = self.differing.iter();
        let damaged = all.filter(|one| one.state != DamageState::Additional);
        damaged.filter(|one| !self.missing.contains(&one.relation))
    }

    /// What is wrong if tables do not exist, and what a person does about it.
    pub fn tables_missing(&self) -> Option<(String, &'static str)> {
        let what = match &self.missing[..] {
            [] => return None,
            [one] => format!("table {one} is missing"),
            many => format!("tables {} are missing", many.join(", ")),
        };
        let next = "rename it back, or restore it from a backup (docs/OPERATIONS.md, Restore); \
                    `kindler migrate` cannot make its rows again";
        Some((what, next))
    }
}

impl Store {
    /// Reads it; `None` if search_path finds no tables.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn ground(
        &self,
        user: DatabaseUser,
    ) -> Result<Option<DatabaseGround>, DatabaseError> {
        let needed = NeededPrivileges::of(user);
        let parameters = parameters(objects(), needed);
        let operation = "check the schema's objects";
        let mut read = self
            .each(operation, CheckGround::sql(), &parameters.values(), ground)
            .await?;
        Ok(read.pop())
    }

    /// The schemas of this database that have Kindler's tables.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn schemas_with_tables(&self) -> Result<Vec<SchemaWithTables>, DatabaseError> {
        self.each(
            "search the tables in every schema",
            &queries::FIND_SCHEMAS,
            &[],
            schema_with_tables,
        )
        .await
    }
}

static EVERY_TABLE: &[&str] = &TABLES;

fn parameters<'a>(objects: &'a Objects, needed: &'a NeededPrivileges) -> CheckGround<'a> {
    CheckGround {
        tables: &EVERY_TABLE,
        kinds: &objects.kinds,
        relations: &objects.relations,
        names: &objects.names,
        fingerprints: &objects.fingerprints,
        privileges: &needed.privileges,
        kinds_needed: &needed.kinds,
        objects_needed: &needed.objects,
        columns_needed: &needed.columns,
    }
}

/// What a migration finds in its schema; `None` if it has no tables.
pub(super) async fn ground_in(
    tx: &Transaction<'_>,
) -> Result<Option<DatabaseGround>, tokio_postgres::Error> {
    let (objects, nothing) = (objects(), NeededPrivileges::default());
    let parameters = parameters(objects, &nothing);
    let values = parameters.values();
    let typed: Vec<_> = values
        .iter()
        .map(|value| (*value, Type::TEXT_ARRAY))
        .collect();
    let rows = tx.query_typed(CheckGround::sql(), &typed).await?;
    Ok(rows.first().and_then(|row| ground(row).ok()))
}

/// The schemas with tables, as a migration sees them.
pub(super) async fn schemas_in(
    tx: &Transaction<'_>,
) -> Result<Vec<SchemaWithTables>, tokio_postgres::Error> {
    let rows = tx.query_typed(&queries::FIND_SCHEMAS, &[]).await?;
    Ok(rows
        .iter()
        .filter_map(|row| schema_with_tables(row).ok())
        .collect())
}

fn schema_with_tables(row: &Row) -> Result<SchemaWithTables, Undecodable> {
    Ok(SchemaWithTables {
        name: column(row, "schema")?,
        usable: column(row, "usable")?,
        renamed: column(row, "renamed")?,
    })
}

fn ground(row: &Row) -> Result<DatabaseGround, Undecodable> {
    let list = |name| column::<serde_json::Value>(row, name);
    let replication_role: String = column(row, "replication_role")?;
    Ok(DatabaseGround {
        schema: column(row, "schema")?,
        role: column(row, "role")?,
        read_at: column(row, "read_at")?,
        missing: column(row, "missing")?,
        differing: serde_json::from_value(list("differing")?).map_err(Undecodable::value)?,
        lacking: serde_json::from_value(list("lacking")?).map_err(Undecodable::value)?,
        hidden: column(row, "hidden")?,
        encoding: column(row, "encoding")?,
        fsync: column(row, "fsync")?,
        full_page_writes: column(row, "full_page_writes")?,
        triggers_fire: replication_role != "replica",
    })
}
