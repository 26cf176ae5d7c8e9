//! Lists all clusters. A row that cannot be decoded is shown with its error.

use comfy_table::Color;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clusters::{Actual, Cluster, SpecValue};
use crate::core::database::Undecodable;
use crate::store::FleetView;

use super::args::ListOutput;
use super::error::CliError;
use super::outcome::Exit;
use super::screen::{Screen, remark, write_json, write_out};
use super::session::{CliSession, WaitingCluster};
use super::table::{Column, Field, render};
use super::text;
use crate::cause::chain;

/// A row, or its raw name and the decoding error.
type ListRow = Result<Cluster, (String, Undecodable)>;

const fn column(title: &'static str, keep: u8) -> Column {
    Column {
        title,
        keep,
        text: false,
    }
}

/// The columns after NEXT are for `-o wide`.
const COLUMNS: [Column; 11] = [
    column("NAME", u8::MAX),
    column("PROVIDER", 2),
    column("DESIRED", 7),
    column("STATE", u8::MAX),
    Column {
        title: "MESSAGE",
        keep: 8,
        text: true,
    },
    column("AGE", 1),
    column("FAILURES", 5),
    column("NEXT", 6),
    column("PORTS", 9),
    column("SUBNET", 4),
    column("GENERATION", 3),
];
const NARROW: usize = 8;

pub(super) async fn list(
    session: &CliSession,
    screen: &Screen,
    output: ListOutput,
) -> Result<Exit, CliError> {
    let rows = session
        .store
        .list()
        .await
        .map_err(|error| session.failed(error))?;
    let fleet = session.fleet().await;
    let fleet = fleet.as_deref();
    if output == ListOutput::Json {
        let rows: Vec<_> = rows.iter().map(|row| as_json(row, fleet)).collect();
        return write_json(&rows);
    }
    if rows.is_empty() {
        remark("no clusters are declared; next: kindler create demo --wait");
        return Ok(Exit::Done);
    }
    let columns = if output == ListOutput::Wide {
        &COLUMNS[..]
    } else {
        &COLUMNS[..NARROW]
    };
    let now = Timestamp::now();
    let fields: Vec<_> = rows.iter().map(|row| as_fields(row, fleet, now)).collect();
    let shown = write_out(&render(columns, &fields, screen))?;
    session.remark_idle().await;
    Ok(shown)
}

fn as_json(row: &ListRow, fleet: Option<&FleetView>) -> Value {
    match row {
        Ok(cluster) => json!(WaitingCluster::of(cluster.clone(), fleet)),
        Err((name, error)) => json!({ "name": name, "unreadable": chain(error) }),
    }
}

fn as_fields(row: &ListRow, fleet: Option<&FleetView>, now: Timestamp) -> Vec<Field> {
    let cluster = match row {
        Ok(cluster) => cluster,
        Err((name, error)) => return unreadable(name, error),
    };
    let spec = &cluster.spec;
    let failures = match cluster.failed_attempts {
        0 => String::new(),
        failures => failures.to_string(),
    };
    let ports = spec.values().filter_map(|(_, value)| match value {
        SpecValue::Port(port) => Some(port.to_string()),
        _ => None,
    });
    let ports: Vec<_> = ports.collect();
    vec![
        Field::new(cluster.name.as_str()),
        Field::new(spec.provider.as_str()),
        Field::new(cluster.desired.as_str()),
        Field::new(cluster.actual.as_str()).coloured(colour(cluster.actual)),
        Field::new(text::why(cluster, fleet)),
        Field::new(
            cluster
                .created_at
                .map(|then| text::since(then, now))
                .unwrap_or_default(),
        ),
        Field::new(failures),
        Field::new(text::next_attempt(cluster, now).unwrap_or_default()),
        Field::new(ports.join(",")),
        Field::new(
            spec.subnet
                .map(|subnet| subnet.to_string())
                .unwrap_or_default(),
        ),
        Field::new(cluster.generation.to_string()),
    ]
}

fn unreadable(name: &str, error: &Undecodable) -> Vec<Field> {
    let mut fields = vec![Field::new(""); COLUMNS.len()];
    fields[0] = Field::new(text::line(name));
    fields[3] = Field::new("unreadable").coloured(Some(Color::Red));
    fields[4] = Field::new(text::line(&chain(error)));
    fields
}

/// The colour of a state: green is healthy, yellow is in progress, red is failed.
pub(super) fn colour(actual: Actual) -> Option<Color> {
    match actual {
        Actual::Running => Some(Color::Green),
        Actual::Creating
        | Actual::Restarting
        | Actual::Updating
        | Actual::Stopping
        | Actual::Deleting => Some(Color::Yellow),
        Actual::Failed => Some(Color::Red),
        Actual::Unknown | Actual::Stopped => None,
    }
}
