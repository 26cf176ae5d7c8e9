//! Whether all is well: the database, the daemons, the work, the failures.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::clusters::event::Reason;
use crate::config::HEARTBEAT;
use crate::core::database::DatabaseError;
use crate::store::{
    DeferredCount, Failing, LeaseInfo, ReplicaStatus, SCHEMA_VERSION, StateCount, Unselected,
    newer_schema,
};

use super::args::Output;
use super::error::CliError;
use super::outcome::Exit;
use super::screen::{Screen, tell, write_json, write_out};
use super::session::Session;
use super::text;
use crate::cause::chain;

/// So many failures are told one by one.
const FAILURES: i64 = 20;
/// So many clusters that wait for no one are named.
const UNSELECTED: i64 = 5;

/// So many daemons that are silent are told one by one: one that crashes and is
/// started again, all the time, would hide those that work.
const SILENT: usize = 3;

const ALL_ASIDE: &str = "every daemon stands aside: nothing new is begun; next: start the release \
                         that the schema belongs to (docs/OPERATIONS.md, Rollback)";

const DELETION_HELD: &str = Reason::DeletionHeld.as_str();

/// Everything that is told.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    database: DatabaseReport,
    daemons: Vec<Daemon>,
    working: Vec<LeaseInfo>,
    counts: Vec<StateCount>,
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
struct Daemon {
    #[serde(flatten)]
    seen: ReplicaStatus,
    alive: bool,
}

pub(super) async fn status(
    session: &Session,
    screen: &Screen,
    output: Output,
) -> Result<Exit, CliError> {
    match collect(session).await {
        Ok(report) => {
            match output {
                Output::Json => write_json(&report)?,
                Output::Text => write_out(&told(&report, screen, Timestamp::now()))?,
            };
            Ok(if report.ok { Exit::Done } else { Exit::Failed })
        }
        Err(error) => no_database(session, output, error),
    }
}

async fn collect(session: &Session) -> Result<Report, DatabaseError> {
    let store = &session.store;
    let schema_version = store.check().await?;
    let daemons: Vec<_> = store
        .replicas()
        .await?
        .into_iter()
        .map(|seen| Daemon {
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
    let held = store.deferred_counts().await?;
    let unselected = store.unselected(HEARTBEAT * 3, None, UNSELECTED).await?;
    let failing = store.failing(FAILURES).await?;
    // Without a listener every wake-up waits for the next full pass; who stands
    // aside begins nothing.
    let awake = daemons
        .iter()
        .any(|daemon| daemon.alive && daemon.seen.listening && !daemon.seen.aside);
    // A deletion that waits is as it should be; a cluster without its repair is not.
    let unrepaired = held.iter().any(|held| held.reason != DELETION_HELD);
    Ok(Report {
        ok: awake && failing.is_empty() && !unrepaired && unselected.total == 0,
        database: DatabaseReport {
            name: session.database.to_string(),
            reachable: true,
            schema_version: Some(schema_version),
            error: None,
        },
        daemons,
        working,
        counts,
        held,
        unselected,
        failing,
    })
}

fn no_database(session: &Session, output: Output, error: DatabaseError) -> Result<Exit, CliError> {
    if output == Output::Json {
        write_json(&Report {
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
            held: Vec::new(),
            unselected: Unselected::default(),
            failing: Vec::new(),
        })?;
    }
    let error = session.failed(error);
    tell(&error, error.hint().as_deref());
    Ok(Exit::BadInput)
}

fn told(report: &Report, screen: &Screen, now: Timestamp) -> String {
    let mut page = Page {
        text: String::new(),
        colour: screen.colour,
    };
    let version = report.database.schema_version.unwrap_or_default();
    let answers = format!("{} answers, schema version {version}", report.database.name);
    match newer_schema(version) {
        None => page.line("database", &answers),
        Some(_) => page.alarm(
            "database",
            &format!("{answers}, newer than this release knows ({SCHEMA_VERSION})"),
        ),
    }
    let none = report.daemons.iter().all(|daemon| !daemon.alive);
    if none {
        page.alarm("daemons", "none is running; next: kindler serve");
    }
    let (alive, silent): (Vec<_>, Vec<_>) = report.daemons.iter().partition(|daemon| daemon.alive);
    if !none && alive.iter().all(|daemon| daemon.seen.aside) {
        page.alarm("daemons", ALL_ASIDE);
    }
    let told = silent.len().min(SILENT);
    for daemon in alive.iter().chain(&silent[..told]) {
        let (well, words) = about(daemon, now);
        if well || none {
            page.line("daemons", &words);
        } else {
            page.alarm("daemons", &words);
        }
    }
    if silent.len() > told {
        let more = silent.len() - told;
        page.line(
            "daemons",
            &format!("and {more} more that fell silent within the last hour"),
        );
    }
    for lease in &report.working {
        let message = text::line(&lease.message);
        let since = text::since(lease.acquired_at, now);
        let (name, state) = (
            text::line(&lease.cluster_name),
            text::line(&lease.actual_state),
        );
        // Who does it matters only where it could be another.
        let who = match report.daemons.len() {
            0 | 1 => String::new(),
            _ => format!(" by {}", worker(report, &lease.owner)),
        };
        page.line(
            "working on",
            &format!("{name} {state} for {since}{who}: {message}"),
        );
    }
    if report.working.is_empty() {
        page.line("working on", "nothing now");
    }
    page.line("clusters", &counted(&report.counts));
    for held in &report.held {
        page.alarm("held back", &held_back(held, now));
    }
    if report.unselected.total > 0 {
        page.alarm("unselected", &waits_for_no_one(&report.unselected));
    }
    for failing in &report.failing {
        page.alarm("failed", &failure(failing, now));
    }
    page.text
}

/// The daemon that holds a lease, in the words of its own line.
fn worker(report: &Report, owner: &str) -> String {
    let daemons = &report.daemons;
    match daemons.iter().find(|daemon| daemon.seen.owner == owner) {
        Some(Daemon { seen, .. }) => format!("{} pid {}", text::line(&seen.host), seen.pid),
        None => text::line(owner),
    }
}

/// A daemon, and whether it is well.
fn about(daemon: &Daemon, now: Timestamp) -> (bool, String) {
    let Daemon { seen, alive } = daemon;
    let (host, version) = (text::line(&seen.host), text::line(&seen.version));
    let mut words = format!("{host} pid {} version {version}", seen.pid);
    if let Some(listen) = &seen.listen {
        let _ = write!(words, ", http {}", text::line(listen));
    }
    if let Some(selector) = &seen.selector {
        let _ = write!(words, ", works on {}", text::line(selector));
    }
    if *alive {
        let _ = write!(words, ", up {}", text::since(seen.started_at, now));
    }
    if !alive {
        let silent = Duration::try_from_secs_f64(seen.silent_seconds).unwrap_or_default();
        let _ = write!(words, "; silent for {}", text::span(silent));
    } else if seen.aside {
        words.push_str("; STANDS ASIDE");
    } else if seen.listening {
        words.push_str("; listening for changes");
    } else {
        words.push_str("; NOT listening for changes: they wait for the next full pass");
    }
    if let Some(notice) = seen.notice.as_deref().filter(|_| *alive) {
        let _ = write!(words, "; {}", text::line(notice));
    }
    let well = *alive && seen.listening && !seen.aside && seen.notice.is_none();
    (well, words)
}

/// How many are in which state; what is wanted otherwise is added.
fn counted(counts: &[StateCount]) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|count| (-count.clusters, &count.actual_state));
    let told = counts.iter().map(|count| {
        let (actual, desired) = (
            text::line(&count.actual_state),
            text::line(&count.desired_state),
        );
        match (desired.as_str(), actual.as_str()) {
            ("stopped", "stopped") | ("present", _) => format!("{} {actual}", count.clusters),
            _ => format!("{} {actual} (to be {desired})", count.clusters),
        }
    });
    let told: Vec<_> = told.collect();
    if told.is_empty() {
        "none is declared".to_owned()
    } else {
        told.join(", ")
    }
}

/// What holds back many at once, and when it goes on.
fn held_back(held: &DeferredCount, now: Timestamp) -> String {
    let next = held
        .next_at
        .map_or("now".to_owned(), |then| text::until(then, now));
    let clusters = match held.clusters {
        1 => "1 cluster".to_owned(),
        n => format!("{n} clusters"),
    };
    match held.reason.as_str() {
        DELETION_HELD => format!(
            "the deletion of {clusters}: KINDLER_DELETE_CAP begin within a minute; the next {next}"
        ),
        _ => format!(
            "the repair of {clusters}: most clusters do not answer, is the container runtime down? \
             (the next look {next}; kindler retry NAME repairs one all the same)"
        ),
    }
}

/// What no daemon selects, and what to do about it.
fn waits_for_no_one(unselected: &Unselected) -> String {
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
        "no daemon selects {}{more}; next: label them, or start a daemon with their KINDLER_SELECTOR",
        named.join(", ")
    )
}

fn failure(failing: &Failing, now: Timestamp) -> String {
    let mut words = text::line(&failing.name);
    let why = [&failing.message, &failing.reason];
    if let Some(why) = why
        .into_iter()
        .map(|t| text::line(t))
        .find(|t| !t.is_empty())
    {
        let _ = write!(words, ": {why}");
    }
    let next = failing
        .next_attempt_at
        .map_or("now".to_owned(), |then| text::until(then, now));
    let _ = match failing.failed_attempts {
        0 => write!(words, " (next attempt {next})"),
        attempt => write!(words, " (attempt {attempt}, next {next})"),
    };
    words
}

/// Lines under headings; a heading is shown once.
struct Page {
    text: String,
    colour: bool,
}

impl Page {
    fn line(&mut self, heading: &str, words: &str) {
        let shown = self.text.lines().any(|line| line.starts_with(heading));
        let heading = if shown { "" } else { heading };
        let _ = writeln!(self.text, "{heading:<11} {words}");
    }

    fn alarm(&mut self, heading: &str, words: &str) {
        if self.colour {
            self.line(heading, &format!("\x1b[31m{words}\x1b[0m"));
        } else {
            self.line(heading, words);
        }
    }
}
