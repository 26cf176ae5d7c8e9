//! Shows one cluster in full.

use std::fmt::Write;

use comfy_table::Color;
use jiff::Timestamp;
use serde::Serialize;

use crate::clusters::{Cluster, ClusterName, SpecValue};
use crate::command::{LogDir, LogOwner};
use crate::core::refusals::RefusedWrite;
use crate::live::StepView;
use crate::store::{FleetView, PortConflict};

use super::args::Output;
use super::error::CliError;
use super::list::colour;
use super::outcome::Exit;
use super::screen::{Screen, write_json, write_out};
use super::session::{CliSession, WaitingCluster};
use super::steps;
use super::text;

pub(super) async fn get(
    session: &CliSession,
    screen: &Screen,
    name: &ClusterName,
    output: Output,
) -> Result<Exit, CliError> {
    let cluster = session.found(name, session.store.get(name).await).await?;
    let records = session.store.steps(cluster.uid).await;
    let records = records.map_err(|error| session.failed(error))?;
    let fleet = session.fleet().await;
    let fleet = fleet.as_deref();
    let refused = fleet.and_then(|fleet| fleet.refusal(name.as_str()).cloned());
    let of = std::slice::from_ref(name);
    let conflicts = session.store.port_conflicts(Some(of), 10).await;
    if output == Output::Json {
        return write_json(&ClusterDetail {
            cluster: WaitingCluster::of(cluster, fleet),
            steps: StepView::of_records(records),
            refused,
        });
    }
    let owner = LogOwner::row(cluster.uid, cluster.created_at);
    let log = LogDir::new(session.connection.log_dir()).of(name.as_str(), owner);
    let log = log.exists().then(|| log.path().display().to_string());
    let now = Timestamp::now();
    let refused = refused.map(|refused| text::refused(&refused, now));
    let warnings = Warnings {
        refused,
        // A search that fails is no error of the cluster.
        conflicts: conflicts.unwrap_or_default(),
    };
    let mut text = described(&cluster, screen, (log.as_deref(), &warnings), fleet, now);
    if !records.is_empty() {
        text.push('\n');
        text.push_str(&steps::table(&records, screen, now));
    }
    let shown = write_out(&text)?;
    session.remark_idle().await;
    Ok(shown)
}

/// A cluster and its steps, as JSON.
#[derive(Serialize)]
struct ClusterDetail {
    #[serde(flatten)]
    cluster: WaitingCluster,
    steps: Vec<StepView>,
    /// Why the database refuses the writes of this row, if the row does not show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<RefusedWrite>,
}

/// What the row itself does not say.
struct Warnings {
    /// Why the database refuses its writes.
    refused: Option<String>,
    /// Its ports that another cluster declares.
    conflicts: Vec<PortConflict>,
}

fn described(
    cluster: &Cluster,
    screen: &Screen,
    (log, warnings): (Option<&str>, &Warnings),
    fleet: Option<&FleetView>,
    now: Timestamp,
) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let line = format!("{name:<13} {value}");
        let _ = writeln!(text, "{}", line.trim_end());
    };
    let moment = |then: Timestamp| format!("{} ago ({then:.0})", text::since(then, now));
    field("name", cluster.name.to_string());
    field("uid", cluster.uid.to_string());
    field("desired", cluster.desired.to_string());
    field("state", state(cluster, screen));
    field("why", text::why(cluster, fleet));
    if let Some(refused) = &warnings.refused {
        field("refused", refused.clone());
    }
    for conflict in &warnings.conflicts {
        let (what, mend) = (conflict.what(), conflict.mend());
        field(
            "conflict",
            format!("{what}; next, for one of them: {mend};"),
        );
    }
    let failures = [
        (cluster.failed_attempts, "attempts in a row"),
        (cluster.health_failures, "health checks in a row"),
    ];
    let failures = failures.into_iter().filter(|(count, _)| *count > 0);
    let failures: Vec<_> = failures
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if !failures.is_empty() {
        field("failures", failures.join(", "));
    }
    if let Some(next) = text::next_attempt(cluster, now) {
        field("next attempt", next);
    } else if let Some(check) = cluster.next_check_at {
        field("next check", text::until(check, now));
    }
    spec_fields(cluster, &mut field);
    for (name, then) in [
        ("declared", cluster.created_at),
        ("changed", cluster.updated_at),
        ("reconciled", cluster.last_reconciled_at),
        ("healthy", cluster.last_healthy_at),
    ] {
        if let Some(then) = then {
            field(name, moment(then));
        }
    }
    field(
        "generation",
        format!(
            "{} (reached {})",
            cluster.generation, cluster.observed_generation
        ),
    );
    if let Some(log) = log {
        field("log", log.to_owned());
    }
    if let Some(error) = &cluster.reconcile_error {
        field("last error", String::new());
        for line in text::lines(error) {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn spec_fields(cluster: &Cluster, field: &mut impl FnMut(&str, String)) {
    let spec = &cluster.spec;
    field(
        "provider",
        format!(
            "{}, context {}",
            spec.provider,
            spec.provider.context(&cluster.name)
        ),
    );
    let mut values: Vec<_> = spec.values().collect();
    values.sort_by_key(|(field, _)| field.display_order());
    let ports = values.iter().filter_map(|(field, value)| match value {
        SpecValue::Port(port) => Some(format!("{} {port}", field.label)),
        _ => None,
    });
    field("ports", ports.collect::<Vec<_>>().join(", "));
    if let Some(subnet) = spec.subnet {
        field("subnet", subnet.to_string());
    }
    if let Some(ip) = &cluster.server_ip {
        field("server ip", text::line(ip));
    }
    let services = values.iter().filter_map(|(field, value)| match value {
        SpecValue::Flag(true) => field.service,
        _ => None,
    });
    let registered: Vec<_> = services.collect();
    field(
        "registered",
        if registered.is_empty() {
            "nowhere".to_owned()
        } else {
            registered.join(", ")
        },
    );
    for (flag, value) in &values {
        if let (SpecValue::Flag(on), None) = (value, flag.service) {
            let on = if *on { "yes" } else { "no" };
            field(&flag.name.replace('_', " "), on.to_owned());
        }
    }
    if cluster
        .labels
        .as_object()
        .is_some_and(|labels| !labels.is_empty())
    {
        field("labels", text::line(&cluster.labels.to_string()));
    }
    if let Some(driver) = &cluster.driver {
        let engine = cluster.engine.as_ref();
        let engine = engine.map(|engine| format!(", on the container engine {engine}"));
        field(
            "made by",
            text::line(&format!("driver {driver}{}", engine.unwrap_or_default())),
        );
    }
    if let Some(place) = &cluster.placed_by {
        let strays = cluster
            .placement_mismatch()
            .map(|strays| format!("; {strays}"));
        field(
            "placed by",
            text::line(&format!("{place}{}", strays.unwrap_or_default())),
        );
    }
}

fn state(cluster: &Cluster, screen: &Screen) -> String {
    let state = cluster.actual.as_str();
    let code = match colour(cluster.actual).filter(|_| screen.colour) {
        Some(Color::Green) => "32",
        Some(Color::Yellow) => "33",
        Some(Color::Red) => "31",
        _ => return state.to_owned(),
    };
    format!("\x1b[{code}m{state}\x1b[0m")
}
