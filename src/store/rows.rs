//! Decodes database rows into domain types, one at a time: an unreadable row is an
//! error of that row alone.

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::access::ScopeError;
use crate::clusters::event::Reason;
use crate::clusters::health::Flaps;
use crate::clusters::{
    Cluster, ClusterName, FieldKind, NameError, Port, Spec, SpecError, SpecField, SpecValue,
    StateError,
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

/// Decodes the columns of `sql/queries/cluster_columns.sql`.
pub(super) fn cluster(row: &Row) -> Result<Cluster, Undecodable> {
    Ok(Cluster {
        name: of(row, "name", |name: &str| Ok(ClusterName::parse(name)?))?,
        uid: column(row, "uid")?,
        spec_hash: column(row, "spec_hash")?,
        spec: Spec::read(|field| {
            let read = spec_value(row, field);
            read.map_err(|why| mendable(row, field.name, why))
        })?,
        desired: of(row, "desired_state", |word: &str| Ok(word.parse()?))?,
        actual: of(row, "actual_state", |word: &str| Ok(word.parse()?))?,
        status_reason: or_declared(column(row, "status_reason")?, Reason::Declared.as_str()),
        status_message: or_declared(column(row, "status_message")?, NOT_OBSERVED),
        reconcile_error: column(row, "reconcile_error")?,
        labels: column(row, "labels")?,
        paused: column(row, "paused")?,
        protected: column(row, "protected")?,
        generation: column(row, "generation")?,
        observed_generation: column(row, "observed_generation")?,
        spec_applied: column(row, "spec_applied")?,
        failed_attempts: count(row, "failed_attempts")?,
        next_attempt_at: of(row, "next_attempt_at", Ok)?,
        health_failures: count(row, "health_failures")?,
        last_healthy_at: of(row, "last_healthy_at", Ok)?,
        flaps: Flaps {
            count: count(row, "flaps")?,
            last: of(row, "flapped_at", Ok)?,
        },
        next_check_at: of(row, "next_check_at", Ok)?,
        last_reconciled_at: of(row, "last_reconciled_at", Ok)?,
        retry_requested_at: of(row, "retry_requested_at", Ok)?,
        server_ip: column(row, "server_ip")?,
        placed_by: column(row, "placed_by")?,
        created_at: of(row, "created_at", Ok)?,
        updated_at: of(row, "updated_at", Ok)?,
    })
}

/// A column that a person can mend.
fn of<'a, R: FromSql<'a>, T>(
    row: &'a Row,
    name: &'static str,
    decode: impl FnOnce(R) -> Result<T, Undecodable>,
) -> Result<T, Undecodable> {
    let read = column(row, name).and_then(decode);
    read.map_err(|why| mendable(row, name, why))
}

/// The error with the statement that mends the row.
fn mendable(row: &Row, name: &'static str, why: Undecodable) -> Undecodable {
    let key: Result<&str, _> = column(row, "name");
    let Some(key) = key.ok().filter(|_| !why.is_of_the_table()) else {
        return why;
    };
    let quoted = key.replace('\'', "''");
    let value = mended(name, key);
    let update = format!("UPDATE clusters SET {name} = {value} WHERE name = '{quoted}'");
    // A trigger keeps these as they are.
    let statement = match name {
        "name" | "provider" => format!(
            "BEGIN; ALTER TABLE clusters DISABLE TRIGGER clusters_2_govern_update; {update}; \
             ALTER TABLE clusters ENABLE TRIGGER clusters_2_govern_update; COMMIT"
        ),
        _ => update,
    };
    Undecodable::Mendable {
        why: Box::new(why),
        statement,
    }
}

/// A value with which a column can be read.
fn mended(field: &str, key: &str) -> String {
    match field {
        "name" => like(key),
        "provider" => "'k3d'".to_owned(),
        "desired_state" => "'present'".to_owned(),
        "actual_state" => "'unknown'".to_owned(),
        "created_at" | "updated_at" => "now()".to_owned(),
        field => match Spec::field(field).map(SpecField::default) {
            None | Some(SpecValue::Subnet(_)) => "NULL".to_owned(),
            // A free port, if it is one of the host.
            Some(_) => "DEFAULT".to_owned(),
        },
    }
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
    let name = Some(name.trim_matches('-')).filter(|name| !name.is_empty());
    format!("'{}'", name.unwrap_or("mended"))
}

/// The text of a row that an earlier system wrote, without a reason.
fn or_declared(text: Option<String>, declared: &str) -> Option<String> {
    text.or_else(|| Some(declared.to_owned()))
}

fn spec_value(row: &Row, field: &'static SpecField) -> Result<SpecValue, Undecodable> {
    let name = field.name;
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
}

/// A count; the table's constraint keeps it from being negative.
fn count(row: &Row, name: &'static str) -> Result<u32, Undecodable> {
    Ok(u32::try_from(column::<i32>(row, name)?).unwrap_or(0))
}
