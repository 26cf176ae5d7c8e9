//! The schema and the declaration of a spec (`src/clusters/spec.rs`) agree on every
//! field. The migration that adds a field makes these tests pass.

use kindler::clusters::{FieldKind, Spec, SpecField};
use tokio_postgres::Client;

use super::migrated;
use crate::kit::Sql;

const ROLES: &str = include_str!("../../../sql/roles.sql");

/// Another value of the field than its default, as SQL.
fn another_value(field: &SpecField) -> String {
    match field.kind {
        FieldKind::Provider => "'kind'".to_owned(),
        FieldKind::Subnet => "'10.101.0.0/16'".to_owned(),
        FieldKind::Port { default, .. } => (default + 1).to_string(),
        FieldKind::Flag { default } => (!default).to_string(),
    }
}

async fn row(client: &Client) -> (i64, String) {
    let row = client
        .query_one(
            "SELECT generation, spec_hash FROM clusters WHERE name = 'dev'",
            &[],
        )
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn columns_have_the_types_and_defaults_of_the_fields() {
    let (_database, client) = migrated().await;
    client.declare("dev").await;
    for field in Spec::FIELDS {
        let name = field.name;
        let of_column = |what: &str| {
            format!(
                "SELECT {what} FROM information_schema.columns WHERE column_name = '{name}'
                 AND table_name = 'clusters' AND table_schema = current_schema()"
            )
        };
        let is = client
            .text(&of_column(
                "data_type || CASE is_nullable WHEN 'YES' THEN ' or null' ELSE '' END",
            ))
            .await;
        let expected = match field.kind {
            FieldKind::Provider => "text",
            FieldKind::Subnet => "cidr or null",
            FieldKind::Port { .. } => "integer",
            FieldKind::Flag { .. } => "boolean",
        };
        assert_eq!(is, expected, "{name}");
        let value = client
            .text(&format!("SELECT {name}::text FROM clusters"))
            .await;
        assert_eq!(value, field.default().to_string(), "the default of {name}");
    }
}

#[tokio::test]
async fn every_field_is_recorded_and_counts_as_a_change() {
    let (_database, client) = migrated().await;
    let recorded = client
        .text(
            "SELECT string_agg(field, ' ' ORDER BY field)
         FROM jsonb_object_keys(kindler_declared(NULL::clusters)) AS field",
        )
        .await;
    let mut names: Vec<_> = Spec::FIELDS.iter().map(|field| field.name).collect();
    names.sort_unstable();
    assert_eq!(recorded, names.join(" "), "kindler_declared");
    client.declare("dev").await;
    for field in Spec::FIELDS {
        let change = format!(
            "UPDATE clusters SET {} = {}",
            field.name,
            another_value(field)
        );
        if field.fixed {
            let message = client.refused(&change).await;
            assert!(message.contains(field.name), "{change}: {message}");
            continue;
        }
        let before = row(&client).await;
        client.run(&change).await;
        let after = row(&client).await;
        assert_eq!(after.0, before.0 + 1, "the generation after {change}");
        assert_ne!(after.1, before.1, "kindler_spec_hash after {change}");
    }
}

#[tokio::test]
async fn ports_are_limited_as_the_fields_say() {
    let (_database, client) = migrated().await;
    let host_ports = Spec::FIELDS
        .iter()
        .filter(|field| field.host_port_of().is_some());
    let host_ports: Vec<_> = host_ports.map(|field| field.name).collect();
    for (index, one) in host_ports.iter().enumerate() {
        for other in &host_ports[index + 1..] {
            let sql = format!(
                "INSERT INTO clusters (name, provider, {one}, {other}) VALUES ('dev', 'kind', 7, 7)"
            );
            let message = client.refused(&sql).await;
            assert_eq!(
                message,
                format!("{one} and {other} are both 7: use a port of its own for each")
            );
        }
    }
    let ports = Spec::FIELDS.iter();
    for field in ports.filter(|field| matches!(field.kind, FieldKind::Port { .. })) {
        let name = field.name;
        let sql =
            format!("INSERT INTO clusters (name, provider, {name}) VALUES ('dev', 'kind', 65536)");
        let message = client.refused(&sql).await;
        assert_eq!(
            message,
            format!("{name} 65536 is out of range: use 1 to 65535")
        );
    }
}

#[tokio::test]
async fn the_api_role_may_write_every_field() {
    let (_database, client) = migrated().await;
    client.run(ROLES).await;
    for field in Spec::FIELDS {
        for (privilege, may) in [("INSERT", true), ("UPDATE", !field.fixed)] {
            let name = field.name;
            let sql = format!(
                "SELECT has_column_privilege('kindler_api', 'clusters', '{name}', '{privilege}')::text"
            );
            assert_eq!(
                client.text(&sql).await,
                may.to_string(),
                "{privilege} {name}"
            );
        }
    }
}
