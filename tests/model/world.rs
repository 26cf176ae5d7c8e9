//! The host: one cluster, and the commands that change it in visible steps.
//!
//! It knows no row, no lease and no owner.

use kindler::clusters::plan::Action;

use crate::row::{Ended, Seen, Shape};
use crate::steps::{CLUSTER, Parts};

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    Absent,
    Healthy,
    Ill,
    Stopped,
}

/// The cluster of the host, and of which spec it is: of none that anybody
/// declared once a command was cut between its effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct World {
    pub form: Form,
    pub of: Option<Shape>,
}

impl World {
    pub const ABSENT: Self = Self {
        form: Form::Absent,
        of: None,
    };

    pub fn new(form: Form, of: Option<Shape>) -> Self {
        match form {
            Form::Absent => Self::ABSENT,
            Form::Healthy | Form::Ill | Form::Stopped => Self { form, of },
        }
    }

    pub fn seen(self) -> Seen {
        match self.form {
            Form::Absent => Seen::Absent,
            Form::Healthy => Seen::Healthy,
            Form::Ill => Seen::Ill,
            Form::Stopped => Seen::Stopped,
        }
    }

    /// A command is half-way, and may be cut here.
    pub fn half(self, action: Action, spec: Shape) -> Self {
        match action {
            // What answers goes on answering while a spec is applied to it.
            Action::Create | Action::Update if self.form == Form::Healthy => {
                Self::new(Form::Healthy, self.of.filter(|of| *of == spec))
            }
            Action::Create | Action::Update => {
                Self::new(Form::Ill, self.of.filter(|of| *of == spec))
            }
            Action::Delete if self.form != Form::Absent => Self::new(Form::Ill, None),
            Action::Delete | Action::Start | Action::Stop => self,
        }
    }

    /// A command has done its work.
    pub fn done(self, action: Action, spec: Shape) -> Self {
        match action {
            Action::Create | Action::Update => Self::new(Form::Healthy, Some(spec)),
            // Something half-made does not come up whole.
            Action::Start if self.of.is_none() => Self::new(self.ill().form, None),
            Action::Start => Self::new(Form::Healthy, self.of),
            Action::Stop if self.form == Form::Absent => self,
            Action::Stop => Self::new(Form::Stopped, self.of),
            Action::Delete => Self::ABSENT,
        }
    }

    fn ill(self) -> Self {
        match self.form {
            Form::Absent => self,
            Form::Healthy | Form::Ill | Form::Stopped => Self::new(Form::Ill, self.of),
        }
    }

    /// What may become of a cluster without any command.
    pub fn by_itself(self) -> &'static [Form] {
        match self.form {
            Form::Absent => &[],
            Form::Healthy => &[Form::Ill, Form::Stopped, Form::Absent],
            // Only what was whole can heal.
            Form::Ill if self.of.is_some() => &[Form::Healthy, Form::Stopped, Form::Absent],
            Form::Ill | Form::Stopped => &[Form::Absent],
        }
    }
}

/// How far a living command has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    Begun,
    HalfWay,
}

/// A living command, with what its guard knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    pub action: Action,
    pub spec: Shape,
    /// The step that it is; none: it does all at once.
    pub step: Option<u8>,
    /// Under which right it was started.
    pub term: u8,
    pub phase: Phase,
    /// Ticks for which its guard still trusts the lease.
    pub trusted: u8,
    /// Its owner told the guard to end it.
    pub told: bool,
}

/// The next thing that a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// Its first effects.
    Begin,
    /// The rest of them, and a good end.
    Finish,
    /// A bad end, with its effects as far as they came.
    Fail,
    /// A bad end after all the work: trouble around a cluster that runs.
    FinishBadly,
    /// A good word for work that was not done.
    Lie,
    /// A bad end for the last time: a best-effort removal is given up.
    GiveUp,
}

impl Command {
    pub fn live(action: Action, spec: Shape, term: u8, trusted: u8) -> Self {
        Self {
            action,
            spec,
            step: None,
            term,
            phase: Phase::Begun,
            trusted,
            told: false,
        }
    }

    /// Whether a cut can leave something half done.
    pub fn has_a_middle(self) -> bool {
        if self.part().is_some() {
            return false;
        }
        match self.action {
            Action::Create | Action::Update | Action::Delete => true,
            Action::Start | Action::Stop => false,
        }
    }

    /// The step beside the cluster that it works on, if it does.
    fn part(self) -> Option<usize> {
        self.step.map(usize::from).filter(|step| *step != CLUSTER)
    }

    /// As [`Self::work`], of a step beside the cluster.
    pub fn work_on_part(self, work: Work, parts: &mut Parts) -> Option<Option<Ended>> {
        let index = self.part()?;
        let made = (self.action != Action::Delete).then_some(self.spec);
        Some(match work {
            Work::Begin => None,
            Work::Finish | Work::FinishBadly => {
                parts.set(index, made);
                Some(if work == Work::Finish {
                    Ended::Well
                } else {
                    Ended::Badly
                })
            }
            Work::GiveUp => {
                parts.given_up = parts.last.is_some();
                Some(Ended::Badly)
            }
            Work::Fail | Work::Lie => Some(Ended::Badly),
        })
    }

    /// The world after this piece of work, and the command's end if it is one.
    pub fn work(self, work: Work, world: World) -> (World, Option<Ended>) {
        // The step of the cluster is applied in full, whatever the action is.
        let action = match self.action {
            Action::Start if self.step.is_some() => Action::Create,
            action => action,
        };
        match work {
            Work::Begin => (world.half(action, self.spec), None),
            Work::Finish => (world.done(action, self.spec), Some(Ended::Well)),
            Work::Fail | Work::GiveUp => (world, Some(Ended::Badly)),
            Work::FinishBadly => (world.done(action, self.spec), Some(Ended::Badly)),
            Work::Lie => (world, Some(Ended::Well)),
        }
    }
}
