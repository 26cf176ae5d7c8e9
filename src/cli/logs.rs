//! What the commands for a cluster printed. The log is a file on the daemon's
//! host; the database is asked only when there is none.

use crate::command::{Follow, LogDir, tail};
use crate::config::{Connection, HEARTBEAT};

use super::args::LogsArgs;
use super::error::CliError;
use super::outcome::Exit;
use super::screen::{remark, write_out};
use super::session::Session;

pub(super) async fn logs(connection: Connection, args: LogsArgs) -> Result<Exit, CliError> {
    let path = LogDir::new(connection.log_dir()).path(args.name.as_str());
    if !path.exists() {
        let hint = whereabouts(connection, &args).await?;
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
    }
    if args.follow {
        let mut follow = Follow::new(path, args.lines)?;
        loop {
            write_out(&(follow.next().await? + "\n"))?;
        }
    }
    let lines = tail(&path, args.lines)?;
    write_out(
        &lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>(),
    )
}

/// Where the log may be instead, as far as the database can tell.
async fn whereabouts(connection: Connection, args: &LogsArgs) -> Result<String, CliError> {
    let nothing_ran = "it appears when a command runs for this cluster; --state-dir must be that \
                       of the daemon";
    let Ok(session) = Session::new(connection) else {
        return Ok(nothing_ran.to_owned());
    };
    match session.store.get(&args.name).await {
        Ok(None) => return Err(session.unknown(&args.name).await),
        Ok(Some(_)) => {}
        Err(_) => return Ok(nothing_ran.to_owned()),
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
