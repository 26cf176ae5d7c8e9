//! Decodes database rows into domain types, one at a time: an unreadable row is an
//! error of that row alone.

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::access::ScopeError;
use crate::cause::chain;
use crate::clusters::event::Reason;
use crate::clusters::health::Flaps;
use crate::clusters::{
    Actual, Cluster, ClusterName, FieldKind, NameError, Port, Spec, SpecError, SpecField,
    SpecValue, StateError,
};
use crate::core::database::{Undecodable, column};

/// As the default of the column.
const NOT_OBSERVED: &str = "declared; not observed yet";

/// A value that a domain type rejects makes the row unreadable.
macro_rules! undecodable {
    ($($error:ty),+) => {
        $(impl From<$error> for Undecodable {
            fn from(error: $error) -> Self {
                Self::value(error)
            }
        })+
    };
}
undecodable!(NameError, SpecError, StateError, ScopeError);

/// A value that cannot be read, and how a person mends it.
#[derive(Debug, thiserror::Error)]
#[error("{why}; next: {statement}")]
struct UnreadableValue {
    why: String,
    /// Mends the row; a trigger then makes it due at once.
    statement: String,
}

/// Reads a column; the error names the statement that sets it to `mended`.
fn read<T>(
    row: &Row,
    field: &'static str,
    mended: &str,
    read: impl FnOnce() -> Result<T, Undecodable>,
) -> Result<T, Undecodable> {
    read().map_err(|why| {
        let name: &str = column(row, "name").unwrap_or_default();
        let name = name.replace('\'', "''");
        let update = format!("UPDATE clusters SET {field} = {mended} WHERE name = '{name}'");
        // A trigger keeps these as they are.
        let statement = match field {
            "name" | "provider" => format!(
                "BEGIN; ALTER TABLE clusters DISABLE TRIGGER clusters_2_govern_update; {update}; \
                 ALTER TABLE clusters ENABLE TRIGGER clusters_2_govern_update; COMMIT"
            ),
            _ => update,
        };
        Undecodable::value(UnreadableValue {
            why: chain(&why),
            statement,
        })
    })
}

/// Reads a time. The table's constraint allows only what can be read.
fn time(row: &Row, field: &'static str) -> Result<Option<Timestamp>, Undecodable> {
    read(row, field, "NULL", || column(row, field))
}

/// A valid name like this one.
fn like(name: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let name = name.to_ascii_lowercase();
    let name: String = name
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .take(32)
        .collect();
    format!(
        "'{}'",
        Some(name.trim_matches('-'))
            .filter(|name| !name.is_empty())
            .unwrap_or("mended")
    )
}

/// Decodes the columns of `sql/queries/cluster_columns.sql`.
pub(super) fn cluster(row: &Row) -> Result<Cluster, Undecodable> {
    let name: &str = column(row, "name")?;
    let actual = read(row, "actual_state", "'unknown'", || {
        Ok(column::<&str>(row, "actual_state")?.parse()?)
    })?;
    Ok(Cluster {
        name: read(row, "name", &like(name), || Ok(ClusterName::parse(name)?))?,
        uid: column(row, "uid")?,
        spec_hash: column(row, "spec_hash")?,
        spec: Spec::read(|field| spec_value(row, field))?,
        desired: read(row, "desired_state", "'present'", || {
            Ok(column::<&str>(row, "desired_state")?.parse()?)
        })?,
        actual,
        status_reason: or_else(column(row, "status_reason")?, || {
            Reason::Declared.as_str().to_owned()
        }),
        status_message: or_else(column(row, "status_message")?, || without_reason(actual)),
        reconcile_error: column(row, "reconcile_error")?,
        labels: column(row, "labels")?,
        paused: column(row, "paused")?,
        protected: column(row, "protected")?,
        generation: column(row, "generation")?,
        observed_generation: column(row, "observed_generation")?,
        spec_applied: column(row, "spec_applied")?,
        failed_attempts: count(row, "failed_attempts")?,
        next_attempt_at: time(row, "next_attempt_at")?,
        health_failures: count(row, "health_failures")?,
        last_healthy_at: time(row, "last_healthy_at")?,
        flaps: Flaps {
            count: count(row, "flaps")?,
            last: time(row, "flapped_at")?,
        },
        next_check_at: time(row, "next_check_at")?,
        last_reconciled_at: time(row, "last_reconciled_at")?,
        retry_requested_at: time(row, "retry_requested_at")?,
        server_ip: column(row, "server_ip")?,
        placed_by: column(row, "placed_by")?,
        driver: column(row, "driver")?,
        engine: column(row, "engine")?,
        adopt_requested_at: time(row, "adopt_requested_at")?,
        recreate_requested_at: time(row, "recreate_requested_at")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

/// The text of a row, or another one where a person or an earlier system wrote none.
fn or_else(text: Option<String>, other: impl FnOnce() -> String) -> Option<String> {
    let text = text.filter(|text| !text.trim().is_empty());
    Some(text.unwrap_or_else(other))
}

/// The message of a row that has none.
fn without_reason(actual: Actual) -> String {
    match actual {
        Actual::Unknown => NOT_OBSERVED.to_owned(),
        _ => format!("recorded as {actual}, without a reason; not observed since"),
    }
}

fn spec_value(row: &Row, field: &'static SpecField) -> Result<SpecValue, Undecodable> {
    let name = field.name;
    let mended = match field.kind {
        FieldKind::Provider => "'k3d'",
        FieldKind::Subnet => "NULL",
        // A free port, if it is one of the host.
        FieldKind::Port { .. } | FieldKind::Flag { .. } => "DEFAULT",
    };
    read(row, name, mended, || {
        Ok(match field.kind {
            FieldKind::Provider => SpecValue::Provider(column::<&str>(row, name)?.parse()?),
            FieldKind::Subnet => {
                let subnet: Option<&str> = column(row, name)?;
                SpecValue::Subnet(subnet.map(str::parse).transpose()?)
            }
            FieldKind::Port { .. } => {
                SpecValue::Port(Port::new(name, i64::from(column::<i32>(row, name)?))?)
            }
            FieldKind::Flag { .. } => SpecValue::Flag(column(row, name)?),
        })
    })
}

/// A count; the table's constraint keeps it from being negative.
fn count(row: &Row, name: &'static str) -> Result<u32, Undecodable> {
    Ok(u32::try_from(column::<i32>(row, name)?).unwrap_or(0))
}
