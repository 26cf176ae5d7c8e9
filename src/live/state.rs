//! The rendered clusters and the latest changes, in memory. The follower fills
//! it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::broadcast;

use crate::store::Problem;

use super::view::View;

/// How many changes are kept for streams that resume, and by how many a stream
/// may lag before it is dropped.
const MAX_RECENT: usize = 4096;

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum FrameKind {
    /// A cluster is new or changed.
    Upsert,
    /// A cluster was removed.
    Remove,
    /// Whether the data is current, or what is wrong, has changed.
    Status,
}

impl FrameKind {
    /// The name of the event in the stream.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// One change, rendered.
#[derive(Debug)]
pub struct Frame {
    /// Its id, which a client sends to resume.
    pub id: String,
    /// The kind of the change.
    pub kind: FrameKind,
    /// The name of the cluster; empty for a status.
    pub name: String,
    /// JSON.
    pub data: Arc<str>,
    number: u64,
}

#[derive(Debug)]
struct FeedRow {
    view: View,
    rendered: Arc<str>,
}

/// The rows and recent changes since following began.
#[derive(Debug)]
pub(super) struct FeedState {
    /// Random for each start of following, so that ids of another are unknown.
    epoch: u64,
    number: u64,
    rows: BTreeMap<String, FeedRow>,
    recent: VecDeque<Arc<Frame>>,
    sender: broadcast::Sender<Arc<Frame>>,
    /// Why the data may be stale, if it may.
    stale: Option<String>,
    /// When the database was last read.
    read_at: Option<Timestamp>,
    /// What is wrong with the daemons and around them.
    problems: Vec<Problem>,
}

impl FeedState {
    pub(super) fn new() -> Self {
        Self {
            epoch: fastrand::u64(..),
            number: 0,
            rows: BTreeMap::new(),
            recent: VecDeque::new(),
            sender: broadcast::channel(MAX_RECENT).0,
            stale: None,
            read_at: None,
            problems: Vec::new(),
        }
    }

    /// Clears everything and starts a new epoch.
    pub(super) fn reset(&mut self) {
        *self = Self {
            sender: self.sender.clone(),
            ..Self::new()
        };
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<Frame>> {
        self.sender.subscribe()
    }

    pub(super) fn total(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn id(&self) -> String {
        format!("{:016x}-{}", self.epoch, self.number)
    }

    pub(super) fn rendered(&self) -> Vec<Arc<str>> {
        self.rows.values().map(|row| row.rendered.clone()).collect()
    }

    /// The changes after an id; `None` if the id is unknown or too old.
    pub(super) fn since(&self, last: &str) -> Option<Vec<Arc<Frame>>> {
        let (epoch, number) = last.split_once('-')?;
        let seen: u64 = number.parse().ok()?;
        if epoch != format!("{:016x}", self.epoch) || seen > self.number {
            return None;
        }
        let oldest = self
            .recent
            .front()
            .map_or(self.number, |frame| frame.number - 1);
        (seen >= oldest).then(|| {
            let later = self.recent.iter().filter(|frame| frame.number > seen);
            later.cloned().collect()
        })
    }

    /// Stores a cluster; sends a frame if it is new or changed.
    pub(super) fn upsert(&mut self, view: View) {
        if self
            .rows
            .get(&view.name)
            .is_some_and(|row| row.view == view)
        {
            return;
        }
        let rendered = render(&view);
        let name = view.name.clone();
        self.send(FrameKind::Upsert, name.clone(), rendered.clone());
        self.rows.insert(name, FeedRow { view, rendered });
    }

    /// Removes the clusters that are not in `names`; sends a frame for each.
    pub(super) fn keep_only(&mut self, names: &HashSet<String>) {
        let gone: Vec<String> = self
            .rows
            .keys()
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            self.rows.remove(&name);
            let data = json!({ "name": name }).to_string();
            self.send(FrameKind::Remove, name, data.into());
        }
    }

    /// Stores whether the data may be stale; sends a frame if that changed.
    pub(super) fn set_stale(&mut self, stale: Option<String>) {
        if stale.is_none() {
            self.read_at = Some(Timestamp::now());
        }
        if self.stale == stale {
            return;
        }
        self.stale = stale;
        self.send_status();
    }

    /// Stores what is wrong; sends a frame if that changed.
    pub(super) fn set_problems(&mut self, problems: Vec<Problem>) {
        if self.problems != problems {
            self.problems = problems;
            self.send_status();
        }
    }

    fn send_status(&mut self) {
        let data = self.status().to_string();
        self.send(FrameKind::Status, String::new(), data.into());
    }

    /// The status for a new stream, if the data may be stale or something is wrong.
    pub(super) fn warning(&self) -> Option<String> {
        let wrong = self.stale.is_some() || !self.problems.is_empty();
        wrong.then(|| self.status().to_string())
    }

    fn status(&self) -> serde_json::Value {
        json!({
            "current": self.stale.is_none(),
            "why": self.stale,
            "as_of": self.read_at,
            "problems": self.problems,
        })
    }

    /// Why there is no data yet.
    pub(super) fn reason(&self) -> String {
        let reason = self.stale.clone();
        reason.unwrap_or_else(|| "the database did not answer in time".to_owned())
    }

    fn send(&mut self, kind: FrameKind, name: String, data: Arc<str>) {
        self.number += 1;
        let frame = Arc::new(Frame {
            id: self.id(),
            kind,
            name,
            data,
            number: self.number,
        });
        if self.recent.len() == MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(frame.clone());
        // Fails if no stream is open.
        let _ = self.sender.send(frame);
    }
}

/// Cannot fail: a view holds only strings, numbers and lists.
fn render(view: &View) -> Arc<str> {
    serde_json::to_string(view).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(name: &str, generation: i64) -> View {
        let mut cluster = crate::clusters::samples::dev();
        cluster.name = name.parse().unwrap();
        cluster.generation = generation;
        View::of(&cluster, None)
    }

    #[test]
    fn only_changed_and_removed_rows_send_frames() {
        let mut state = FeedState::new();
        let start = state.id();
        state.upsert(view("a", 1));
        state.upsert(view("a", 1));
        state.upsert(view("b", 1));
        state.keep_only(&HashSet::from(["b".to_owned()]));
        let sent: Vec<_> = state
            .since(&start)
            .unwrap()
            .iter()
            .map(|f| (f.kind, f.name.clone()))
            .collect();
        let expected = [
            (FrameKind::Upsert, "a".to_owned()),
            (FrameKind::Upsert, "b".to_owned()),
            (FrameKind::Remove, "a".to_owned()),
        ];
        assert_eq!(sent, expected);
        assert_eq!((state.total(), state.rendered().len()), (1, 1));
    }

    #[test]
    fn a_new_stream_learns_since_when_the_data_is_stale() {
        let mut state = FeedState::new();
        assert_eq!(state.warning(), None);
        state.set_stale(None);
        state.set_stale(Some("unreachable".to_owned()));
        let warning: serde_json::Value = serde_json::from_str(&state.warning().unwrap()).unwrap();
        assert_eq!(
            (&warning["current"], &warning["why"]),
            (&json!(false), &json!("unreachable"))
        );
        assert!(warning["as_of"].is_string(), "{warning}");
        state.set_stale(None);
        assert_eq!(state.warning(), None);
    }

    #[test]
    fn a_stream_learns_what_is_wrong_and_when_it_ends() {
        let mut state = FeedState::new();
        let start = state.id();
        let problem = || Problem {
            what: "no daemon is running".to_owned(),
            next: "start one".to_owned(),
        };
        state.set_problems(vec![problem()]);
        state.set_problems(vec![problem()]);
        let warning: serde_json::Value = serde_json::from_str(&state.warning().unwrap()).unwrap();
        assert_eq!(warning["current"], true);
        assert_eq!(warning["problems"][0]["what"], "no daemon is running");
        state.set_problems(Vec::new());
        assert_eq!(state.warning(), None);
        assert_eq!(state.since(&start).unwrap().len(), 2);
    }

    #[test]
    fn an_id_resumes_while_its_changes_are_kept() {
        let mut state = FeedState::new();
        let start = state.id();
        for n in 0..i64::try_from(MAX_RECENT).unwrap() {
            state.upsert(view("a", n));
        }
        assert_eq!(state.since(&start).unwrap().len(), MAX_RECENT);
        let last = state.id();
        assert_eq!(state.since(&last).unwrap().len(), 0);
        state.upsert(view("a", -1));
        assert!(state.since(&start).is_none());
        assert_eq!(state.since(&last).unwrap().len(), 1);
        let future = last.replace('-', "-9");
        for unknown in ["", "x", "0-1", "-", future.as_str()] {
            assert!(state.since(unknown).is_none(), "{unknown}");
        }
        state.reset();
        assert!(state.since(&last).is_none());
    }
}
