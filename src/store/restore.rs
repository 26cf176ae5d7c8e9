//! Restores the triggers, constraints and functions that this release makes, within the
//! transaction of a migration.

use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;

use crate::core::database::lock_tables;

use super::ground::{ground_in, schemas_in};
use super::migrate::{MIGRATIONS, MigrateError, MigrationAttempt, TABLES, during, unless_locked};
use super::objects::{Damage, ObjectKind, restoring};

/// What a restore did.
#[derive(Debug, Default)]
pub(super) struct RestoredObjects {
    /// What was restored, each with what was wrong.
    pub(super) restored: Vec<String>,
    /// The constraints that rows break, so that they stay absent.
    pub(super) broken: Vec<String>,
}

/// Restores what differs; reads catalogs only if nothing does. `locked` is whether the tables
/// are locked already.
pub(super) async fn restore(
    tx: &Transaction<'_>,
    locked: bool,
) -> Result<RestoredObjects, MigrationAttempt> {
    let mut done = RestoredObjects::default();
    let look = || during("compare the triggers, constraints and functions");
    let Some(ground) = ground_in(tx).await.map_err(look())? else {
        return Ok(done);
    };
    if let Some((what, next)) = ground.tables_missing() {
        return Err(MigrationAttempt::Failed(MigrateError::TablesMissing {
            what,
            next,
        }));
    }
    let mut damaged: Vec<Damage> = ground.damaged().cloned().collect();
    if damaged.is_empty() {
        return Ok(done);
    }
    if !locked {
        let all = lock_tables(tx, &TABLES).await;
        all.map_err(unless_locked("lock the tables"))?;
    }
    let migrations = MIGRATIONS.map(|(_, _, sql)| sql).concat();
    // Triggers call functions, and a restored function may bring back nothing of them.
    damaged.sort_by_key(|one| match one.kind {
        ObjectKind::Function => 0,
        ObjectKind::Constraint => 1,
        ObjectKind::Trigger => 2,
    });
    for one in &damaged {
        match restore_one(tx, one, &migrations).await? {
            true => done
                .restored
                .push(format!("{} (was {})", one.object(), one.state)),
            false => done.broken.push(one.object()),
        }
    }
    Ok(done)
}

/// Whether it was restored: a constraint that rows break is not.
async fn restore_one(
    tx: &Transaction<'_>,
    damage: &Damage,
    migrations: &str,
) -> Result<bool, MigrationAttempt> {
    let operation = format!("restore {}", damage.object());
    let failed = || unless_locked(&operation);
    tx.batch_execute("SAVEPOINT restore")
        .await
        .map_err(failed())?;
    match tx.batch_execute(&restoring(damage, migrations)).await {
        Ok(()) => Ok(true),
        Err(error) if damage.kind == ObjectKind::Constraint && broken_by_rows(&error) => {
            let back = tx.batch_execute("ROLLBACK TO SAVEPOINT restore").await;
            back.map_err(failed())?;
            Ok(false)
        }
        Err(error) => Err(failed()(error)),
    }
}

fn broken_by_rows(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| {
        [SqlState::CHECK_VIOLATION, SqlState::FOREIGN_KEY_VIOLATION].contains(code)
    })
}

/// Refuses to create a second set of tables beside one whose schema was renamed.
pub(super) async fn refuse_second_set(tx: &Transaction<'_>) -> Result<(), MigrateError> {
    let look = || during("search the tables in every schema");
    let known = "SELECT to_regclass('clusters') IS NOT NULL";
    if tx.query_typed_one(known, &[]).await.map_err(look())?.get(0) {
        return Ok(());
    }
    let schemas = schemas_in(tx).await.map_err(look())?;
    match schemas.into_iter().find(|schema| schema.renamed) {
        Some(schema) => Err(MigrateError::Renamed {
            schema: schema.name,
        }),
        None => Ok(()),
    }
}
