//! Decodes database rows into domain types, one at a time: an unreadable row is an
//! error of that row alone.

use tokio_postgres::Row;

use crate::access::ScopeError;
use crate::clusters::health::Flaps;
use crate::clusters::{
    Cluster, ClusterName, FieldKind, NameError, Port, Spec, SpecError, SpecField, SpecValue,
    StateError,
};
use crate::core::database::{Undecodable, column};

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
        name: ClusterName::parse(column(row, "name")?)?,
        uid: column(row, "uid")?,
        spec_hash: column(row, "spec_hash")?,
        spec: Spec::read(|field| spec_value(row, field))?,
        desired: column::<&str>(row, "desired_state")?.parse()?,
        actual: column::<&str>(row, "actual_state")?.parse()?,
        status_reason: column(row, "status_reason")?,
        status_message: column(row, "status_message")?,
        reconcile_error: column(row, "reconcile_error")?,
        labels: column(row, "labels")?,
        paused: column(row, "paused")?,
        protected: column(row, "protected")?,
        generation: column(row, "generation")?,
        observed_generation: column(row, "observed_generation")?,
        spec_applied: column(row, "spec_applied")?,
        failed_attempts: count(row, "failed_attempts")?,
        next_attempt_at: column(row, "next_attempt_at")?,
        health_failures: count(row, "health_failures")?,
        last_healthy_at: column(row, "last_healthy_at")?,
        flaps: Flaps {
            count: count(row, "flaps")?,
            last: column(row, "flapped_at")?,
        },
        next_check_at: column(row, "next_check_at")?,
        last_reconciled_at: column(row, "last_reconciled_at")?,
        retry_requested_at: column(row, "retry_requested_at")?,
        server_ip: column(row, "server_ip")?,
        placed_by: column(row, "placed_by")?,
        created_at: column(row, "created_at")?,
        updated_at: column(row, "updated_at")?,
    })
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
