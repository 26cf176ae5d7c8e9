//! What is known of the clusters, and the last changes, each rendered once.
//! Memory only: the follower fills it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::broadcast;

use super::view::View;

/// So many changes are remembered for streams that resume, and a reader may lag
/// behind by so many until it is dropped.
const REMEMBERED: usize = 4096;

/// What a frame tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A cluster is new or changed.
    Upsert,
    /// A cluster is gone.
    Remove,
    /// Whether what is shown can be trusted has changed.
    Status,
}

impl FrameKind {
    /// The name of the event in the stream.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Remove => "remove",
            Self::Status => "status",
        }
    }
}

/// One change, rendered.
#[derive(Debug)]
pub struct Frame {
    /// Its place among all changes.
    pub id: String,
    /// What it tells.
    pub kind: FrameKind,
    /// The cluster, or nothing for a status.
    pub name: String,
    /// The JSON.
    pub data: Arc<str>,
    number: u64,
}

#[derive(Debug)]
struct Row {
    view: View,
    rendered: Arc<str>,
}

/// Rows and changes of one time of following.
#[derive(Debug)]
pub(super) struct State {
    /// Differs for each time of following, so that an id of another is unknown.
    epoch: u64,
    number: u64,
    rows: BTreeMap<String, Row>,
    recent: VecDeque<Arc<Frame>>,
    sender: broadcast::Sender<Arc<Frame>>,
    /// Why what is shown may be old, if it may.
    trouble: Option<String>,
    /// When the database was last read.
    read_at: Option<Timestamp>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            epoch: fastrand::u64(..),
            number: 0,
            rows: BTreeMap::new(),
            recent: VecDeque::new(),
            sender: broadcast::channel(REMEMBERED).0,
            trouble: None,
            read_at: None,
        }
    }

    /// Forgets everything: what follows is another time.
    pub(super) fn forget(&mut self) {
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

    /// What followed a change; `None` if that is not known any more.
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

    /// Notes a cluster as it is; tells of it if that is new.
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
        self.tell(FrameKind::Upsert, name.clone(), rendered.clone());
        self.rows.insert(name, Row { view, rendered });
    }

    /// Forgets the clusters that are not among `names`, and tells of them.
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
            self.tell(FrameKind::Remove, name, data.into());
        }
    }

    /// Notes whether what is shown may be old, and tells if that changed.
    pub(super) fn trouble(&mut self, trouble: Option<String>) {
        if trouble.is_none() {
            self.read_at = Some(Timestamp::now());
        }
        if self.trouble == trouble {
            return;
        }
        self.trouble = trouble;
        let data = self.status().to_string();
        self.tell(FrameKind::Status, String::new(), data.into());
    }

    /// What whoever looks from now on has to know: that what is shown is old.
    pub(super) fn warning(&self) -> Option<String> {
        self.trouble.as_ref().map(|_| self.status().to_string())
    }

    fn status(&self) -> serde_json::Value {
        json!({ "current": self.trouble.is_none(), "why": self.trouble, "as_of": self.read_at })
    }

    pub(super) fn trouble_told(&self) -> String {
        let told = self.trouble.clone();
        told.unwrap_or_else(|| "the database did not answer in time".to_owned())
    }

    fn tell(&mut self, kind: FrameKind, name: String, data: Arc<str>) {
        self.number += 1;
        let frame = Arc::new(Frame {
            id: self.id(),
            kind,
            name,
            data,
            number: self.number,
        });
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(frame.clone());
        // Nobody may be looking.
        let _ = self.sender.send(frame);
    }
}

/// A view has only texts, numbers and lists in it, so this cannot fail.
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
    fn equal_rows_are_told_once_and_gone_ones_are_told() {
        let mut state = State::new();
        let start = state.id();
        state.upsert(view("a", 1));
        state.upsert(view("a", 1));
        state.upsert(view("b", 1));
        state.keep_only(&HashSet::from(["b".to_owned()]));
        let told: Vec<_> = state
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
        assert_eq!(told, expected);
        assert_eq!((state.total(), state.rendered().len()), (1, 1));
    }

    #[test]
    fn whoever_comes_in_trouble_is_told_since_when() {
        let mut state = State::new();
        assert_eq!(state.warning(), None);
        state.trouble(None);
        state.trouble(Some("it is away".to_owned()));
        let warning: serde_json::Value = serde_json::from_str(&state.warning().unwrap()).unwrap();
        assert_eq!(
            (&warning["current"], &warning["why"]),
            (&json!(false), &json!("it is away"))
        );
        assert!(warning["as_of"].is_string(), "{warning}");
        state.trouble(None);
        assert_eq!(state.warning(), None);
    }

    #[test]
    fn an_id_resumes_as_long_as_it_is_remembered_and_no_longer() {
        let mut state = State::new();
        let start = state.id();
        for n in 0..i64::try_from(REMEMBERED).unwrap() {
            state.upsert(view("a", n));
        }
        assert_eq!(state.since(&start).unwrap().len(), REMEMBERED);
        let last = state.id();
        assert_eq!(state.since(&last).unwrap().len(), 0);
        state.upsert(view("a", -1));
        assert!(state.since(&start).is_none());
        assert_eq!(state.since(&last).unwrap().len(), 1);
        let future = last.replace('-', "-9");
        for unknown in ["", "x", "0-1", "-", future.as_str()] {
            assert!(state.since(unknown).is_none(), "{unknown}");
        }
        state.forget();
        assert!(state.since(&last).is_none());
    }
}
