//! Shows the health of Kindler: database, daemons, work, failures.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::clusters::Actual;
use crate::clusters::event::Reason;
use crate::config::HEARTBEAT;
use crate::core::database::DatabaseError;
use crate::core::refusals::RefusedWrite;
use crate::findings::{Finding, Severity};
use crate::store::{
    DeferredCount, Failing, LeaseInfo, ReplicaStatus, SCHEMA_VERSION, STOP_DELETIONS, StateCount,
    Unselected, newer_schema,
};

use super::args::Output;
use super::error::CliError;
use super::outcome::Exit;
use super::screen::{Screen, print_error, write_json, write_out};
use super::session::CliSession;
use super::text;
use crate::cause::chain;

/// Maximum number of failures to list.
const MAX_FAILURES: i64 = 20;
/// Maximum number of unselected clusters to name.
const MAX_UNSELECTED: i64 = 5;
/// Maximum number of stopped daemons to list: a daemon in a crash loop would hide
/// the working ones.
const MAX_STOPPED: usize = 3;

const ALL_ON_STANDBY: &str = "all replicas are on standby: the schema is newer than their release; \
                              next: start the release that the schema belongs to \
                              (docs/OPERATIONS.md, Rollback)";

/// The report; its fields are the JSON output.
#[derive(Debug, Serialize)]
struct StatusReport {
    ok: bool,
    database: DatabaseReport,
    daemons: Vec<DaemonReport>,
    working: Vec<LeaseInfo>,
    counts: Vec<StateCount>,
    deferred: Vec<DeferredCount>,
    /// The old name of `deferred`.
    held: Vec<DeferredCount>,
    unselected: Unselected,
    failing: Vec<Failing>,
}

#[derive(Debug, Serialize)]
struct DatabaseReport {
    name: String,
    reachable: bool,
    schema_version: Option<i32>,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct DaemonReport {
    #[serde(flatten)]
    seen: ReplicaStatus,
    alive: bool,
}

pub(super) async fn status(
    session: &CliSession,
    screen: &Screen,
    output: Output,
) -> Result<Exit, CliError> {
    match collect(session).await {
        Ok(report) => {
            match output {
                Output::Json => write_json(&report)?,
                Output::Text => write_out(&report_text(&report, screen, Timestamp::now()))?,
            };
            Ok(if report.ok { Exit::Done } else { Exit::Failed })
        }
        Err(error) => no_database(session, output, error),
    }
}

async fn collect(session: &CliSession) -> Result<StatusReport, DatabaseError> {
    let store = &session.store;
    let schema_version = store.check().await?;
    let daemons: Vec<_> = store
        .replicas()
        .await?
        .into_iter()
        .map(|seen| DaemonReport {
            alive: seen.alive(HEARTBEAT),
            seen,
        })
        .collect();
    let working = store
        .leases()
        .await?
        .into_iter()
        .filter(|lease| lease.live)
        .collect();
    let counts = store.counts().await?;
    let deferred = store.deferred_counts().await?;
    let unselected = store
        .unselected(HEARTBEAT * 3, None, MAX_UNSELECTED)
        .await?;
    let failing = store.failing(MAX_FAILURES).await?;
    // Without a listener changes wait for the next full pass; a daemon on standby
    // starts no new work.
    let works = daemons
        .iter()
        .any(|daemon| daemon.alive && daemon.seen.listening && !daemon.seen.standby);
    // A deferred deletion is normal; a deferred repair is not.
    let unrepaired = deferred.iter().any(|one| !is_deletion(one));
    Ok(StatusReport {
        ok: works
            && failing.is_empty()
            && !unrepaired
            && unselected.total == 0
            && refused(&daemons).next().is_none()
            && !findings(&daemons).any(|(_, found)| found.severity == Severity::Failure),
        database: DatabaseReport {
            name: session.database.to_string(),
            reachable: true,
            schema_version: Some(schema_version),
            error: None,
        },
        daemons,
        working,
        counts,
        held: deferred.clone(),
        deferred,
        unselected,
        failing,
    })
}

fn no_database(
    session: &CliSession,
    output: Output,
    error: DatabaseError,
) -> Result<Exit, CliError> {
    if output == Output::Json {
        write_json(&StatusReport {
            ok: false,
            database: DatabaseReport {
                name: session.database.to_string(),
                reachable: !error.is_unreachable(),
                schema_version: None,
                error: Some(chain(&error)),
            },
            daemons: Vec::new(),
            working: Vec::new(),
            counts: Vec::new(),
            deferred: Vec::new(),
            held: Vec::new(),
            unselected: Unselected::default(),
            failing: Vec::new(),
        })?;
    }
    let error = session.failed(error);
    print_error(&error, error.hint().as_deref());
    Ok(Exit::BadInput)
}

fn report_text(report: &StatusReport, screen: &Screen, now: Timestamp) -> String {
    let mut lines = StatusLines {
        text: String::new(),
        colour: screen.colour,
    };
    let version = report.database.schema_version.unwrap_or_default();
    let answers = format!("{} answers, schema version {version}", report.database.name);
    match newer_schema(version) {
        None => lines.line("database", &answers),
        Some(_) => lines.alarm(
            "database",
            &format!(
                "{answers}, newer than this release knows ({SCHEMA_VERSION}); next: use the newer \
                 release"
            ),
        ),
    }
    let none = report.daemons.iter().all(|daemon| !daemon.alive);
    if none {
        lines.alarm("daemons", "none is running; next: kindler serve");
    }
    let (alive, stopped): (Vec<_>, Vec<_>) = report.daemons.iter().partition(|daemon| daemon.alive);
    if !none && alive.iter().all(|daemon| daemon.seen.standby) {
        lines.alarm("daemons", ALL_ON_STANDBY);
    }
    let listed = stopped.len().min(MAX_STOPPED);
    for daemon in alive.iter().chain(&stopped[..listed]) {
        let (healthy, text) = daemon_text(daemon, now);
        if healthy || none {
            lines.line("daemons", &text);
        } else {
            lines.alarm("daemons", &text);
        }
    }
    if stopped.len() > listed {
        let more = stopped.len() - listed;
        lines.line(
            "daemons",
            &format!("and {more} more that stopped sending heartbeats within the last hour"),
        );
    }
    for lease in &report.working {
        let message = text::line(&lease.message);
        let since = text::since(lease.acquired_at, now);
        let (name, state) = (
            text::line(&lease.cluster_name),
            text::line(&lease.actual_state),
        );
        // With one daemon the owner is obvious.
        let owner = match report.daemons.len() {
            0 | 1 => String::new(),
            _ => format!(" by {}", owner_text(report, &lease.owner)),
        };
        lines.line(
            "working on",
            &format!("{name} {state} for {since}{owner}: {message}"),
        );
    }
    if report.working.is_empty() {
        lines.line("working on", "nothing now");
    }
    lines.line("clusters", &counts_text(&report.counts));
    for deferred in &report.deferred {
        let cap = report.daemons.iter().filter(|daemon| daemon.alive);
        let cap = cap.filter_map(|daemon| daemon.seen.delete_cap).min();
        lines.alarm("deferred", &deferred_text(deferred, cap, now));
    }
    if report.unselected.total > 0 {
        lines.alarm("unselected", &unselected_text(&report.unselected));
    }
    for label in [FAILED, "repairing", "flapping", "blocked", "unobserved"] {
        let labelled = |failing: &&Failing| failure_label(failing) == label;
        for failing in report.failing.iter().filter(labelled) {
            lines.alarm(label, &failure_text(failing, now));
        }
    }
    for (host, finding) in findings(&report.daemons) {
        let found = format!("{}: {finding}", text::line(host));
        lines.alarm("found", &text::line(&found));
    }
    for refused in refused(&report.daemons) {
        let why = text::refused(refused, now);
        lines.alarm("refused", &format!("{}: {why}", text::line(&refused.key)));
    }
    lines.text
}

/// What the database refuses to the daemons that work.
fn refused(daemons: &[DaemonReport]) -> impl Iterator<Item = &RefusedWrite> {
    let alive = daemons.iter().filter(|daemon| daemon.alive);
    alive.flat_map(|daemon| &daemon.seen.refused)
}

/// What the daemons that work find wrong around them.
fn findings(daemons: &[DaemonReport]) -> impl Iterator<Item = (&str, &Finding)> {
    let alive = daemons.iter().filter(|daemon| daemon.alive);
    alive.flat_map(|daemon| {
        let found = daemon.seen.findings.iter();
        found.map(|finding| (daemon.seen.host.as_str(), finding))
    })
}

/// The owner of a lease, as in its own line.
fn owner_text(report: &StatusReport, owner: &str) -> String {
    let daemons = &report.daemons;
    match daemons.iter().find(|daemon| daemon.seen.owner == owner) {
        Some(DaemonReport { seen, .. }) => format!("{} pid {}", text::line(&seen.host), seen.pid),
        None => text::line(owner),
    }
}

/// A daemon in one line, and whether it is healthy.
fn daemon_text(daemon: &DaemonReport, now: Timestamp) -> (bool, String) {
    let DaemonReport { seen, alive } = daemon;
    let (host, version) = (text::line(&seen.host), text::line(&seen.version));
    let mut text = format!("{host} pid {} version {version}", seen.pid);
    if let Some(listen) = &seen.listen {
        let _ = write!(text, ", http {}", text::line(listen));
    }
    if let Some(selector) = &seen.selector {
        let _ = write!(text, ", works on {}", text::line(selector));
    }
    if *alive {
        let _ = write!(text, ", up {}", text::since(seen.started_at, now));
    }
    if !alive {
        let silent = Duration::try_from_secs_f64(seen.silent_seconds).unwrap_or_default();
        let _ = write!(text, "; no heartbeat for {}", text::span(silent));
    } else if seen.standby {
        text.push_str("; STANDBY");
    } else if seen.listening {
        text.push_str("; listening for changes");
    } else {
        text.push_str("; NOT listening for changes: changes wait for the next full pass");
    }
    if let Some(notice) = seen.notice.as_deref().filter(|_| *alive) {
        let _ = write!(text, "; {}", text::line(notice));
    }
    let healthy = *alive && seen.listening && !seen.standby && seen.notice.is_none();
    (healthy, text)
}

/// The clusters per state, with the desired state if it differs.
fn counts_text(counts: &[StateCount]) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|count| (-count.clusters, &count.actual_state));
    let texts = counts.iter().map(|count| {
        let (actual, desired) = (
            text::line(&count.actual_state),
            text::line(&count.desired_state),
        );
        match (desired.as_str(), actual.as_str()) {
            ("stopped", "stopped") | ("present", _) => format!("{} {actual}", count.clusters),
            _ => format!("{} {actual} (desired: {desired})", count.clusters),
        }
    });
    let texts: Vec<_> = texts.collect();
    if texts.is_empty() {
        "none is declared".to_owned()
    } else {
        texts.join(", ")
    }
}

/// Work that a safety limit defers, and until when.
fn deferred_text(deferred: &DeferredCount, cap: Option<usize>, now: Timestamp) -> String {
    let next = deferred
        .next_at
        .map_or("now".to_owned(), |then| text::until(then, now));
    let clusters = match deferred.clusters {
        1 => "1 cluster".to_owned(),
        n => format!("{n} clusters"),
    };
    if is_deletion(deferred) {
        let cap = cap.map(|cap| format!("={cap}")).unwrap_or_default();
        format!(
            "deletion of {clusters}: KINDLER_DELETE_CAP{cap} limits the deletions per minute, and the \
             next begins {next}; next: wait, or to stop them: {STOP_DELETIONS}"
        )
    } else {
        format!(
            "repair of {clusters}: most clusters do not answer; is the container runtime down? \
             (next check {next}; kindler retry NAME repairs one now)"
        )
    }
}

fn is_deletion(deferred: &DeferredCount) -> bool {
    deferred.reason == Reason::DeletionHeld.as_str()
}

/// The unselected clusters, and what to do.
fn unselected_text(unselected: &Unselected) -> String {
    let named = unselected.clusters.iter().map(|cluster| {
        let name = text::line(&cluster.name);
        match &cluster.placed_by {
            Some(place) => format!("{name} (placed by {})", text::line(place)),
            None => name,
        }
    });
    let named: Vec<_> = named.collect();
    let more = match unselected.total - named.len() as i64 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "no daemon selects {}{more}; next: change their labels, or start a daemon whose \
         KINDLER_SELECTOR matches",
        named.join(", ")
    )
}

const FAILED: &str = "failed";

/// The list has not only failed clusters.
fn failure_label(failing: &Failing) -> &'static str {
    let failed = failing.failed_attempts > 0 || failing.actual_state == Actual::Failed.as_str();
    match Reason::named(&failing.reason) {
        Some(Reason::Flapping) => "flapping",
        Some(Reason::Repairing) => "repairing",
        Some(Reason::StepsUnknown) if !failed => "blocked",
        Some(Reason::ObservationFailed) if !failed => "unobserved",
        _ => FAILED,
    }
}

fn failure_text(failing: &Failing, now: Timestamp) -> String {
    let mut text = text::line(&failing.name);
    let why = [&failing.message, &failing.reason];
    if let Some(why) = why
        .into_iter()
        .map(|t| text::line(t))
        .find(|t| !t.is_empty())
    {
        let _ = write!(text, ": {why}");
    }
    if let Some(last) = last_output(failing.error.as_deref().unwrap_or_default()) {
        let _ = write!(text, ": {}", text::line(last));
    }
    let next = failing
        .next_attempt_at
        .map_or("now".to_owned(), |then| text::until(then, now));
    let _ = match failing.failed_attempts {
        _ if failing.protected => write!(text, " (protected: only observed)"),
        _ if failing.paused => write!(text, " (paused: only observed)"),
        0 if failure_label(failing) != FAILED => Ok(()),
        0 => write!(text, " (next attempt {next})"),
        1 => write!(text, " (1 attempt failed, next attempt {next})"),
        attempts => write!(text, " ({attempts} attempts failed, next attempt {next})"),
    };
    // Of the daemon's own words, not of a command's output.
    let mut words = ["next:", "kindler "].iter();
    let says_what_to_do = words.any(|word| failing.message.contains(word));
    let command = match failure_label(failing) {
        FAILED if failing.paused && !failing.protected => "resume",
        "flapping" => "events",
        "blocked" | "unobserved" => "get",
        _ => "logs",
    };
    if !says_what_to_do {
        let _ = write!(
            text,
            "; next: kindler {command} {}",
            text::line(&failing.name)
        );
    }
    text
}

/// The last line of output in the error of a command: what is before the path of its log, and not
/// the summary.
fn last_output(error: &str) -> Option<&str> {
    let (before, _) = error.rsplit_once("\nlog: ")?;
    before
        .lines()
        .skip(1)
        .filter(|line| !line.trim().is_empty())
        .last()
}

/// Lines with headings; a heading is shown once.
struct StatusLines {
    text: String,
    colour: bool,
}

impl StatusLines {
    fn line(&mut self, heading: &str, content: &str) {
        let shown = self.text.lines().any(|line| line.starts_with(heading));
        let heading = if shown { "" } else { heading };
        let _ = writeln!(self.text, "{heading:<11} {content}");
    }

    fn alarm(&mut self, heading: &str, content: &str) {
        if self.colour {
            self.line(heading, &format!("\x1b[31m{content}\x1b[0m"));
        } else {
            self.line(heading, content);
        }
    }
}
