//! Parameters and columns of statements.
//!
//! An unnamed statement is sent, parsed and run in one round trip, so it also works through
//! a transaction pooler, where a prepared statement may not exist in the session. It needs
//! the type of each parameter. It is planned at each call (measured: a claim takes 0.39 ms
//! instead of 0.07), but its plan is never out of date when a later release changes a
//! table.

use bytes::BytesMut;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};

use super::Undecodable;

/// A parameter of a statement.
pub type Param<'a> = &'a (dyn ToSql + Sync);

/// A parameter with the type that its Rust value has in Postgres.
pub(crate) type Typed<'a> = (Param<'a>, Type);

/// Reads a column by name.
///
/// # Errors
/// [`Undecodable`], naming the column.
pub fn column<'a, T: FromSql<'a>>(row: &'a Row, column: &'static str) -> Result<T, Undecodable> {
    row.try_get(column)
        .map_err(|source| Undecodable::Column { column, source })
}

/// The parameter types of all queries; the first that accepts a value is its type.
const TYPES: [Type; 18] = [
    Type::TEXT,
    Type::INT8,
    Type::INT4,
    Type::BOOL,
    Type::FLOAT8,
    Type::TIMESTAMPTZ,
    Type::JSONB,
    Type::TEXT_ARRAY,
    Type::BYTEA,
    Type::INT8_ARRAY,
    Type::BYTEA_ARRAY,
    Type::UUID,
    Type::UUID_ARRAY,
    Type::BOOL_ARRAY,
    Type::INT4_ARRAY,
    Type::FLOAT8_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::JSONB_ARRAY,
];

/// The parameters with their types.
pub(crate) fn typed<'a>(params: &[Param<'a>]) -> Vec<Typed<'a>> {
    params
        .iter()
        .map(|param| (*param, type_of(*param)))
        .collect()
}

/// The type of a value: behind `dyn`, only serializing it checks which types it accepts.
fn type_of(param: Param<'_>) -> Type {
    let accepts = |ty: &&Type| param.to_sql_checked(ty, &mut BytesMut::new()).is_ok();
    TYPES.iter().find(accepts).cloned().unwrap_or(Type::UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_parameter_has_its_type() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let names = vec!["a".to_owned()];
        let (hash, ids, hashes) = (&[7_u8; 32][..], vec![1_i64], vec![vec![7_u8]]);
        let cases: [(&(dyn ToSql + Sync), Type); 15] = [
            (&"text", Type::TEXT),
            (&"text".to_owned(), Type::TEXT),
            (&None::<String>, Type::TEXT),
            (&1_i64, Type::INT8),
            (&1_i32, Type::INT4),
            (&None::<i32>, Type::INT4),
            (&true, Type::BOOL),
            (&1.5_f64, Type::FLOAT8),
            (&now, Type::TIMESTAMPTZ),
            (&None::<jiff::Timestamp>, Type::TIMESTAMPTZ),
            (&serde_json::Value::Null, Type::JSONB),
            (&names, Type::TEXT_ARRAY),
            (&hash, Type::BYTEA),
            (&ids, Type::INT8_ARRAY),
            (&hashes, Type::BYTEA_ARRAY),
        ];
        for (param, expected) in cases {
            assert_eq!(type_of(param), expected, "{param:?}");
        }
    }
}
