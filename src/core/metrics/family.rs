//! The declaration of a metric family: name, type, labels, help, and advice. Collectors
//! and `docs/METRICS.md` are generated from it, so they cannot differ.

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only rises; starts at zero with the process.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts observations in buckets with these upper bounds, in seconds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// The word after `# TYPE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// One family of series.
#[derive(Debug, PartialEq)]
pub struct Family {
    /// The name, with its unit.
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// The labels of each series, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// What it measures.
    pub help: &'static str,
    /// What to do when its values are wrong; empty if it only informs.
    pub advice: &'static str,
}

/// A group of families: heading, description, families.
pub type FamilyGroup = (&'static str, &'static str, &'static [&'static Family]);

/// Declares families, grouped under headings, and lists them as `GROUPS`.
macro_rules! families {
    ($($group:literal, $about:literal: $(
        $id:ident $kind:ident $name:literal [$($label:literal)*] $help:literal, $advice:literal;
    )+)+) => {
        $($(
            #[doc = $help]
            pub static $id: $crate::core::metrics::Family = $crate::core::metrics::Family {
                name: $name, kind: $kind, labels: &[$($label),*], help: $help, advice: $advice,
            };
        )+)+

        /// All families, in groups.
        pub static GROUPS: &[$crate::core::metrics::FamilyGroup] = &[$(($group, $about, &[$(&$id),+])),+];
    };
}

pub(crate) use families;
