//! Shows the output of a cluster's commands. The log is a file on the daemon's
//! host; a UID in it shows whether it belongs to the current cluster.

use std::io::{self, IsTerminal};
use std::time::Duration;

use crate::clusters::Cluster;
use crate::command::{Follow, LogDir, LogOwner, LogText, tail};
use crate::config::{Connection, HEARTBEAT};

use super::args::LogsArgs;
use super::error::CliError;
use super::outcome::Exit;
use super::screen::{remark, write_out};
use super::session::CliSession;

/// Deadline of the database: the command also works in an outage.
const ROW_WITHIN: Duration = Duration::from_secs(2);

/// The row of the name, as far as the database answers.
enum LogRow {
    Present(Box<Cluster>),
    Removed,
    Unknown,
}

pub(super) async fn logs(connection: Connection, args: LogsArgs) -> Result<Exit, CliError> {
    let logs = LogDir::new(connection.log_dir());
    let session = CliSession::new(connection).ok();
    let row = read_row(session.as_ref(), &args).await;
    let owner = match &row {
        LogRow::Present(cluster) => LogOwner::row(cluster.uid, cluster.created_at),
        LogRow::Removed | LogRow::Unknown => LogOwner::Last,
    };
    let log = logs.of(args.name.as_str(), owner);
    if !log.exists() {
        let path = log.path().to_owned();
        let hint = location_hint(session.as_ref(), &row, &args).await?;
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
    } else if matches!(row, LogRow::Unknown) {
        remark(&format!(
            "note: the database does not answer: this log may be of an earlier cluster named {}",
            args.name
        ));
    }
    if args.follow {
        let mut follow = Follow::new(log, args.lines)?;
        let mut shown = FollowedLine::new(io::stdout().is_terminal());
        while let Some(text) = follow.next().await? {
            write_out(&shown.next(text))?;
        }
        write_out(&shown.end())?;
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

async fn read_row(session: Option<&CliSession>, args: &LogsArgs) -> LogRow {
    let Some(session) = session else {
        return LogRow::Unknown;
    };
    match tokio::time::timeout(ROW_WITHIN, session.store.get(&args.name)).await {
        Ok(Ok(Some(cluster))) => LogRow::Present(Box::new(cluster)),
        Ok(Ok(None)) => LogRow::Removed,
        Ok(Err(_)) | Err(_) => LogRow::Unknown,
    }
}

/// A hint where the log may be.
async fn location_hint(
    session: Option<&CliSession>,
    row: &LogRow,
    args: &LogsArgs,
) -> Result<String, CliError> {
    let no_command = "the first command for this cluster creates it; --state-dir must be that of \
                       the daemon";
    let Some(session) = session else {
        return Ok(no_command.to_owned());
    };
    match row {
        LogRow::Removed => return Err(session.unknown(&args.name).await),
        LogRow::Present(_) => {}
        LogRow::Unknown => return Ok(no_command.to_owned()),
    }
    let daemons = session.store.replicas().await.unwrap_or_default();
    let hosts: Vec<_> = daemons
        .iter()
        .filter(|d| d.alive(HEARTBEAT))
        .map(|d| d.host.as_str())
        .collect();
    Ok(if hosts.is_empty() {
        format!("{no_command}; no daemon is running now")
    } else {
        format!("{no_command}, which runs on {}", hosts.join(", "))
    })
}

/// An unfinished line is overwritten on a terminal. Elsewhere it is continued, or, if its text was
/// replaced, written again below.
struct FollowedLine {
    terminal: bool,
    unfinished: String,
}

/// The longest unfinished text on a terminal: text that wraps cannot be overwritten.
const UNFINISHED_CHARS: usize = 79;

impl FollowedLine {
    fn new(terminal: bool) -> Self {
        Self {
            terminal,
            unfinished: String::new(),
        }
    }

    /// What is written for the next text.
    fn next(&mut self, text: LogText) -> String {
        let (text, end) = match text {
            LogText::Line(line) => (line, "\n"),
            LogText::Unfinished(text) => (text, ""),
        };
        let before = std::mem::take(&mut self.unfinished);
        if end.is_empty() {
            self.unfinished.clone_from(&text);
        }
        if self.terminal {
            let erase = if before.is_empty() { "" } else { "\r\x1b[K" };
            let room = if end.is_empty() {
                UNFINISHED_CHARS
            } else {
                usize::MAX
            };
            let text: String = text.chars().take(room).collect();
            return format!("{erase}{text}{end}");
        }
        match text.strip_prefix(&before) {
            Some(rest) => format!("{rest}{end}"),
            None => format!("\n{text}{end}"),
        }
    }

    /// What ends the last text.
    fn end(&self) -> String {
        let end = if self.unfinished.is_empty() { "" } else { "\n" };
        end.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(terminal: bool) -> String {
        let mut line = FollowedLine::new(terminal);
        let texts = [
            LogText::Line("one".into()),
            LogText::Unfinished("pull 1%".into()),
            LogText::Unfinished("pull 1% of 3".into()),
            LogText::Unfinished("pull 9%".into()),
            LogText::Line("pulled".into()),
            LogText::Unfinished("[y/N]".into()),
        ];
        let written: String = texts.map(|text| line.next(text)).concat();
        written + &line.end()
    }

    #[test]
    fn an_unfinished_line_is_overwritten_or_continued() {
        let e = "\r\x1b[K";
        assert_eq!(
            written(true),
            format!("one\npull 1%{e}pull 1% of 3{e}pull 9%{e}pulled\n[y/N]\n")
        );
        assert_eq!(
            written(false),
            "one\npull 1% of 3\npull 9%\npulled\n[y/N]\n"
        );
    }
}
