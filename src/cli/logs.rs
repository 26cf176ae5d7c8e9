//! What the commands for a cluster printed. The log is a file on the daemon's
//! host; the database tells whether it is of the cluster that has the name now.

use std::time::Duration;

use crate::clusters::Cluster;
use crate::command::{Follow, LogDir, LogOwner, tail};
use crate::config::{Connection, HEARTBEAT};

use super::args::LogsArgs;
use super::error::CliError;
use super::outcome::Exit;
use super::screen::{remark, write_out};
use super::session::Session;

/// The log is read in outages, too: the database has so long to answer.
const ROW_WITHIN: Duration = Duration::from_secs(2);

/// What the database says of the name.
enum Row {
    Present(Box<Cluster>),
    Removed,
    NotAsked,
}

pub(super) async fn logs(connection: Connection, args: LogsArgs) -> Result<Exit, CliError> {
    let logs = LogDir::new(connection.log_dir());
    let session = Session::new(connection).ok();
    let row = row(session.as_ref(), &args).await;
    let owner = match &row {
        Row::Present(cluster) => LogOwner::row(cluster.uid, cluster.created_at),
        Row::Removed | Row::NotAsked => LogOwner::Last,
    };
    let log = logs.of(args.name.as_str(), owner);
    if !log.exists() {
        let path = log.path().to_owned();
        let hint = whereabouts(session.as_ref(), &row, &args).await?;
        if !args.follow {
            return Err(CliError::NoLog {
                name: args.name,
                path,
                hint,
            });
        }
        remark(&format!(
            "no log of {} at {} yet: {hint}",
            args.name,
            path.display()
        ));
    } else if matches!(row, Row::NotAsked) {
        remark(&format!(
            "note: the database does not answer: this log may be of an earlier cluster named {}",
            args.name
        ));
    }
    if args.follow {
        let mut follow = Follow::new(log, args.lines)?;
        while let Some(line) = follow.next().await? {
            write_out(&(line + "\n"))?;
        }
        remark(&format!(
            "note: the log ends here: a later cluster is named {} now",
            args.name
        ));
        return Ok(Exit::Done);
    }
    let lines = tail(&log, args.lines)?;
    write_out(
        &lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    )
}

async fn row(session: Option<&Session>, args: &LogsArgs) -> Row {
    let Some(session) = session else {
        return Row::NotAsked;
    };
    match tokio::time::timeout(ROW_WITHIN, session.store.get(&args.name)).await {
        Ok(Ok(Some(cluster))) => Row::Present(Box::new(cluster)),
        Ok(Ok(None)) => Row::Removed,
        Ok(Err(_)) | Err(_) => Row::NotAsked,
    }
}

/// Where the log may be instead, as far as the database can tell.
async fn whereabouts(
    session: Option<&Session>,
    row: &Row,
    args: &LogsArgs,
) -> Result<String, CliError> {
    let nothing_ran = "the first command for this cluster creates it; --state-dir must be that of \
                       the daemon";
    let Some(session) = session else {
        return Ok(nothing_ran.to_owned());
    };
    match row {
        Row::Removed => return Err(session.unknown(&args.name).await),
        Row::Present(_) => {}
        Row::NotAsked => return Ok(nothing_ran.to_owned()),
    }
    let daemons = session.store.replicas().await.unwrap_or_default();
    let hosts: Vec<_> = daemons
        .iter()
        .filter(|d| d.alive(HEARTBEAT))
        .map(|d| d.host.as_str())
        .collect();
    Ok(if hosts.is_empty() {
        format!("{nothing_ran}; no daemon is running now")
    } else {
        format!("{nothing_ran}, which runs on {}", hosts.join(", "))
    })
}
