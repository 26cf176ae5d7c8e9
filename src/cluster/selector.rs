//! Label selectors in Kubernetes' syntax: `env=prod, team in (a, b), !old`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// What a label must be like. Without the label, `in` does not hold and
/// `notin` does, as in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// `in`, `notin`, `exists` or `missing`.
    pub op: &'static str,
    /// For `in` and `notin`.
    pub values: Vec<String>,
}

/// Requirements that all have to hold; none of them: everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Selector(Vec<Requirement>);

/// Why a text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "selector: {part:?} is not understood: use KEY=VALUE, KEY!=VALUE, KEY in (A,B), \
     KEY notin (A,B), KEY or !KEY, separated by commas"
)]
pub struct SelectorError {
    part: String,
}

impl Selector {
    /// The requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }

    /// Whether labels, an object of texts, fulfil every requirement.
    pub fn matches(&self, labels: &serde_json::Value) -> bool {
        self.0.iter().all(|one| {
            let label = labels.get(&one.key).and_then(|value| value.as_str());
            let listed = label.is_some_and(|label| one.values.iter().any(|value| value == label));
            match one.op {
                "in" => listed,
                "notin" => !listed,
                "exists" => label.is_some(),
                _ => label.is_none(),
            }
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        parts(text)
            .into_iter()
            .filter(|part| !part.trim().is_empty())
            .map(requirement)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Requirement { key, op, values }) in self.0.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { "," })?;
            match *op {
                "exists" => f.write_str(key)?,
                "missing" => write!(f, "!{key}")?,
                op => write!(f, "{key} {op} ({})", values.join(","))?,
            }
        }
        Ok(())
    }
}

/// The text at its commas, but not at those within brackets.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(part: &str) -> Result<Requirement, SelectorError> {
    let refused = || SelectorError {
        part: part.trim().chars().take(80).collect(),
    };
    let made = |key: &str, op, values: Vec<&str>| {
        let fine = is_word(key, false) && values.iter().all(|value| is_word(value, true));
        fine.then(|| Requirement {
            key: key.to_owned(),
            op,
            values: values.into_iter().map(str::to_owned).collect(),
        })
        .ok_or_else(refused)
    };
    let part = part.trim();
    if let Some((key, value)) = part.split_once("!=") {
        return made(key.trim(), "notin", vec![value.trim()]);
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return made(key.trim(), "in", vec![value.trim()]);
    }
    if let Some((head, list)) = part.strip_suffix(')').and_then(|part| part.split_once('(')) {
        let values: Vec<_> = list.split(',').map(str::trim).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => made(key, "in", values),
            (Some(key), Some("notin"), None) => made(key, "notin", values),
            _ => Err(refused()),
        };
    }
    match part.strip_prefix('!') {
        Some(key) => made(key.trim(), "missing", Vec::new()),
        None => made(part, "exists", Vec::new()),
    }
}

/// A label's key or value.
fn is_word(text: &str, may_be_empty: bool) -> bool {
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && !"(),=!".contains(c);
    (may_be_empty || !text.is_empty()) && text.len() <= 256 && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(selector: &str, labels: serde_json::Value) -> bool {
        selector.parse::<Selector>().unwrap().matches(&labels)
    }

    #[test]
    fn every_operator_matches_as_in_kubernetes() {
        let prod = json!({"env": "prod", "team": "a"});
        for good in [
            "",
            "env",
            "env=prod",
            "env==prod",
            "env!=dev",
            "env in (dev, prod)",
            "team notin (b,c)",
            "!old",
            "old!=x",
            "env=prod,team=a",
        ] {
            assert!(matches(good, prod.clone()), "{good}");
        }
        for bad in [
            "old",
            "env=dev",
            "env!=prod",
            "env in (dev)",
            "team notin (a)",
            "!env",
            "env=prod,team=b",
        ] {
            assert!(!matches(bad, prod.clone()), "{bad}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_part_that_is_meant() {
        for bad in [
            "=x",
            "a b",
            "a in b",
            "a in (b",
            "a of (b)",
            "!",
            "a=b=c",
            "a in (b) c",
        ] {
            let error = format!("env=prod,{bad}")
                .parse::<Selector>()
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("selector: "), "{bad}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_read_back_the_same(text in "[a-c=!(), in]{0,24}") {
            if let Ok(selector) = text.parse::<Selector>() {
                proptest::prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
            }
        }
    }
}
