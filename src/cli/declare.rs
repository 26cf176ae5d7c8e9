//! The commands that declare: they write what people want and act on no cluster. With
//! `--wait` they wait until a daemon has reached it.

use std::io::{self, BufRead, IsTerminal};

use crate::clusters::{Cluster, ClusterName, Desired, SpecField, SpecValue};
use crate::store::{Declaration, Declared};

use super::args::{ChangeArgs, CreateArgs, DeleteArgs, WaitArgs};
use super::error::CliError;
use super::outcome::Exit;
use super::screen::{self, Screen, remark, write_out};
use super::session::CliSession;
use super::wait::{Goal, wait};

/// Attempts to declare, if the row is removed concurrently.
const ATTEMPTS: usize = 3;

pub(super) async fn create(
    session: &CliSession,
    screen: &Screen,
    args: CreateArgs,
) -> Result<Exit, CliError> {
    if args.name.is_management() {
        return Err(CliError::Management(args.name));
    }
    let name = &args.name;
    let new = declaration(&args);
    new.check()?;
    for _ in 0..ATTEMPTS {
        let declared = session.store.declare(&new).await;
        let cluster = match declared.map_err(|error| session.failed(error))? {
            Declared::New(cluster) => {
                write_out(&format!("cluster {name} declared: {}\n", summary(&cluster)))?;
                if new.spec.host_ports().next().is_some() {
                    warn_of_ports(session, name).await;
                }
                cluster
            }
            Declared::Exists(cluster) => {
                let differences = differences(&args, &cluster);
                if !differences.is_empty() {
                    let differences = differences.join(", ");
                    return Err(CliError::Different {
                        name: name.clone(),
                        differences,
                    });
                }
                match declare_present(session, cluster).await? {
                    Some(cluster) => cluster,
                    // The row was absent and is removed now: the name is free.
                    None => continue,
                }
            }
        };
        if let Some(limit) = args.wait.limit() {
            return wait(session, screen, name, Goal::of(&cluster), limit).await;
        }
        session.remark_waiting(&cluster).await;
        remark(&format!(
            "next: kindler get {name}, or kindler create {name} --wait to watch"
        ));
        return Ok(Exit::Done);
    }
    Err(CliError::Contended { name: args.name })
}

/// Says which given ports another cluster declares, too. The declaration was made, so a search
/// that fails is no error.
async fn warn_of_ports(session: &CliSession, name: &ClusterName) {
    let of = std::slice::from_ref(name);
    let conflicts = session.store.port_conflicts(Some(of), 10).await;
    for conflict in conflicts.unwrap_or_default() {
        remark(&format!(
            "warning: {}: both cannot run on one host; next: {};",
            conflict.what(),
            conflict.mend()
        ));
    }
}

fn declaration(args: &CreateArgs) -> Declaration {
    Declaration {
        name: args.name.clone(),
        spec: args.spec.0.clone(),
        labels: serde_json::json!({}),
        paused: false,
        desired: Desired::Present,
    }
}

/// Declares an existing row present; `None` if it was removed meanwhile.
async fn declare_present(
    session: &CliSession,
    cluster: Cluster,
) -> Result<Option<Cluster>, CliError> {
    let name = &cluster.name;
    if cluster.desired == Desired::Present {
        write_out(&format!(
            "cluster {name} is already declared: {}\n",
            summary(&cluster)
        ))?;
        return Ok(Some(cluster));
    }
    let changed = session
        .store
        .set_desired(name, Desired::Present, None)
        .await;
    let changed = changed.map_err(|error| session.failed(error))?;
    if changed.is_some() {
        write_out(&format!(
            "cluster {name} is declared present again; it was {}\n",
            cluster.desired
        ))?;
    }
    Ok(changed)
}

fn summary(cluster: &Cluster) -> String {
    let spec = &cluster.spec;
    format!(
        "{}, http {}, https {}",
        spec.provider, spec.http_port, spec.https_port
    )
}

/// The given values that differ from the declared ones.
fn differences(args: &CreateArgs, cluster: &Cluster) -> Vec<String> {
    let declared = |field: &SpecField| {
        let mut values = cluster.spec.values();
        values.find_map(|(known, value)| (known.name == field.name).then_some(value))
    };
    let differ = |(field, given): (&SpecField, SpecValue)| {
        let is = declared(field).filter(|is| *is != given)?;
        let is = match is {
            SpecValue::Subnet(None) => "not set".to_owned(),
            is => is.to_string(),
        };
        Some(format!("{} is {is}, not {given}", field.name))
    };
    args.spec.0.values().filter_map(differ).collect()
}

pub(super) async fn delete(
    session: &CliSession,
    screen: &Screen,
    args: DeleteArgs,
) -> Result<Exit, CliError> {
    let name = &args.name;
    let cluster = session.found(name, session.store.get(name).await).await?;
    if !args.yes && io::stdin().is_terminal() && screen.stderr_tty {
        confirm(&cluster, "")?;
    }
    let declared = declare_desired(session, &cluster, Desired::Absent).await?;
    match args.wait.limit() {
        Some(limit) => wait(session, screen, name, Goal::of(&declared), limit).await,
        None => {
            session.remark_waiting(&declared).await;
            remark(&format!(
                "next: kindler delete {name} --wait to watch, or kindler list"
            ));
            Ok(Exit::Done)
        }
    }
}

fn confirm(cluster: &Cluster, then: &str) -> Result<(), CliError> {
    let name = &cluster.name;
    let provider = cluster.spec.provider;
    screen::to_stderr(&format!(
        "delete the {provider} cluster {name} ({}) with everything in it{then}? [y/N] ",
        cluster.actual
    ));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(CliError::Input)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CliError::NotConfirmed { name: name.clone() }),
    }
}

pub(super) async fn start(
    session: &CliSession,
    screen: &Screen,
    args: ChangeArgs,
) -> Result<Exit, CliError> {
    set_desired(session, screen, args, Desired::Present).await
}

pub(super) async fn stop(
    session: &CliSession,
    screen: &Screen,
    args: ChangeArgs,
) -> Result<Exit, CliError> {
    set_desired(session, screen, args, Desired::Stopped).await
}

async fn set_desired(
    session: &CliSession,
    screen: &Screen,
    args: ChangeArgs,
    desired: Desired,
) -> Result<Exit, CliError> {
    let cluster = session
        .found(&args.name, session.store.get(&args.name).await)
        .await?;
    let declared = declare_desired(session, &cluster, desired).await?;
    match args.wait.limit() {
        Some(limit) => wait(session, screen, &args.name, Goal::of(&declared), limit).await,
        None => {
            session.remark_waiting(&declared).await;
            Ok(Exit::Done)
        }
    }
}

/// Declares a state and prints what changed.
async fn declare_desired(
    session: &CliSession,
    cluster: &Cluster,
    desired: Desired,
) -> Result<Cluster, CliError> {
    let name = &cluster.name;
    // Writes even if nothing seems to change: the row may have changed meanwhile.
    let answer = session.store.set_desired(name, desired, None).await;
    let declared = session.found(name, answer).await?;
    write_out(&if cluster.desired == desired {
        format!("cluster {name} is already declared {desired}\n")
    } else {
        format!(
            "cluster {name} is declared {desired}; it was {}\n",
            cluster.desired
        )
    })?;
    if cluster.paused {
        remark(&format!(
            "it is paused: nothing changes until it is resumed; next: kindler resume {name}"
        ));
    }
    Ok(declared)
}

pub(super) async fn pause(session: &CliSession, name: &ClusterName) -> Result<Exit, CliError> {
    let answer = session.store.set_paused(name, true, None).await;
    session.found(name, answer).await?;
    remark(&format!(
        "Kindler observes it and changes nothing; next: kindler resume {name}"
    ));
    write_out(&format!("cluster {name} is paused\n"))
}

pub(super) async fn resume(
    session: &CliSession,
    screen: &Screen,
    args: ChangeArgs,
) -> Result<Exit, CliError> {
    let name = &args.name;
    let answer = session.store.set_paused(name, false, None).await;
    let cluster = session.found(name, answer).await?;
    write_out(&format!("cluster {name} is resumed\n"))?;
    match args.wait.limit() {
        Some(limit) => wait(session, screen, name, Goal::of(&cluster), limit).await,
        None => {
            session.remark_waiting(&cluster).await;
            Ok(Exit::Done)
        }
    }
}

pub(super) async fn retry(
    session: &CliSession,
    screen: &Screen,
    args: ChangeArgs,
) -> Result<Exit, CliError> {
    let name = &args.name;
    let answer = session.store.request_retry(name, None).await;
    let cluster = session.found(name, answer).await?;
    write_out(&format!("cluster {name} is retried at once\n"))?;
    requested(session, screen, &cluster, &args.wait).await
}

pub(super) async fn adopt(
    session: &CliSession,
    screen: &Screen,
    args: ChangeArgs,
) -> Result<Exit, CliError> {
    let name = &args.name;
    let answer = session.store.request_adopt(name, None).await;
    let cluster = session.found(name, answer).await?;
    write_out(&format!(
        "cluster {name} takes over what the daemon finds of its name\n"
    ))?;
    requested(session, screen, &cluster, &args.wait).await
}

pub(super) async fn recreate(
    session: &CliSession,
    screen: &Screen,
    args: DeleteArgs,
) -> Result<Exit, CliError> {
    let name = &args.name;
    let cluster = session.found(name, session.store.get(name).await).await?;
    if !args.yes && io::stdin().is_terminal() && screen.stderr_tty {
        confirm(&cluster, " and create it again")?;
    }
    let answer = session.store.request_recreate(name, None).await;
    let cluster = session.found(name, answer).await?;
    write_out(&format!("cluster {name} is deleted and created again\n"))?;
    requested(session, screen, &cluster, &args.wait).await
}

/// Waits for what was requested, or says how to follow it.
async fn requested(
    session: &CliSession,
    screen: &Screen,
    cluster: &Cluster,
    waiting: &WaitArgs,
) -> Result<Exit, CliError> {
    let name = &cluster.name;
    match waiting.limit() {
        Some(limit) => wait(session, screen, name, Goal::after_retry(cluster), limit).await,
        None => {
            session.remark_waiting(cluster).await;
            remark(&format!(
                "next: kindler get {name}, or kindler logs {name} -f"
            ));
            Ok(Exit::Done)
        }
    }
}
