//! The parts of statements that list the fields of a spec, generated from its declaration.
//!
//! A statement takes a spec as one jsonb parameter and reads it as the record `s`.

use crate::clusters::{FieldKind, HostPort, Spec, SpecField};

/// The placeholders in `sql/queries` with their texts.
pub(super) fn marks() -> [(&'static str, String); 10] {
    [
        ("{spec_columns}", list(fields().map(|field| field.name))),
        (
            "{spec_values}",
            list(fields().map(|field| format!("s.{}", field.name))),
        ),
        (
            "{spec_record}",
            list(fields().map(|field| format!("{} {}", field.name, column_type(field)))),
        ),
        ("{spec_changes}", list(changeable().map(change))),
        (
            "{given_ports}",
            list(host_ports().map(|(field, _)| format!("s.{}", field.name))),
        ),
        (
            "{host_ports}",
            list(host_ports().map(|(field, host)| {
                let (name, pool) = (field.name, host.pool);
                format!("('{pool}', '{name}', c.{name})")
            })),
        ),
        (
            "{free_port_lists}",
            list(host_ports().map(|(field, host)| {
                let (name, candidates) = (field.name, candidates(host));
                format!("ARRAY({candidates} ORDER BY p LIMIT 50) AS {name}")
            })),
        ),
        ("{used_ports}", list(pools().into_iter().map(used_ports))),
        ("{pools_in_use}", list(pools().into_iter().map(pool_in_use))),
        ("{any_pool}", pools().join(" OR ")),
    ]
}

fn fields() -> impl Iterator<Item = &'static SpecField> {
    Spec::FIELDS.iter()
}

fn changeable() -> impl Iterator<Item = &'static SpecField> {
    fields().filter(|field| !field.fixed)
}

/// The fields that are ports of the host.
pub(super) fn host_ports() -> impl Iterator<Item = (&'static SpecField, &'static HostPort)> {
    fields().filter_map(|field| Some((field, field.host_port_of()?)))
}

/// The pools of the host's ports, each once.
pub(super) fn pools() -> Vec<&'static str> {
    let mut pools: Vec<_> = host_ports().map(|(_, host)| host.pool).collect();
    pools.sort_unstable();
    pools.dedup();
    pools
}

fn list(parts: impl Iterator<Item = impl Into<String>>) -> String {
    parts.map(Into::into).collect::<Vec<String>>().join(", ")
}

fn column_type(field: &SpecField) -> &'static str {
    match field.kind {
        FieldKind::Provider => "text",
        FieldKind::Subnet => "cidr",
        FieldKind::Port { .. } => "integer",
        FieldKind::Flag { .. } => "boolean",
    }
}

/// A field that `d.spec` does not contain stays as it is in `c`.
fn change(field: &SpecField) -> String {
    let name = field.name;
    format!("{name} = CASE WHEN d.spec ? '{name}' THEN s.{name} ELSE c.{name} END")
}

/// The ports of a pool that clusters declare within its ranges, as `used_POOL`.
fn used_ports(pool: &str) -> String {
    let of_pool = || host_ports().filter(move |(_, host)| host.pool == pool);
    let first = of_pool().map(|(_, host)| *host.free.start()).min();
    let last = of_pool().map(|(_, host)| *host.free.end()).max();
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    let selects = of_pool().map(|(field, _)| {
        let name = field.name;
        format!(
            "SELECT DISTINCT {name} AS port FROM clusters WHERE {name} BETWEEN {first} AND {last}"
        )
    });
    let selects: Vec<_> = selects.collect();
    format!("used_{pool} AS MATERIALIZED ({})", selects.join(" UNION "))
}

/// Ports in the range of a field that no cluster uses in its pool.
fn candidates(host: &HostPort) -> String {
    let (first, last, pool) = (host.free.start(), host.free.end(), host.pool);
    format!(
        "SELECT p FROM generate_series({first}, {last}) p \
         WHERE NOT EXISTS (SELECT FROM used_{pool} WHERE port = p)"
    )
}

/// Whether `c` declares a port of `s` for a field of the same pool.
fn pool_in_use(pool: &str) -> String {
    let of_pool = || host_ports().filter(|(_, host)| host.pool == pool);
    let asked = list(of_pool().map(|(field, _)| format!("s.{}", field.name)));
    let same = of_pool().map(|(field, _)| format!("c.{} IN ({asked})", field.name));
    let same: Vec<_> = same.collect();
    format!("({}) AS {pool}", same.join(" OR "))
}
