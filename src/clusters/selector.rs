//! Label selectors in the syntax of Kubernetes: `env=prod, team in (a, b), !old`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;

/// A requirement for one label. If the label is missing, `in` does not hold and `notin`
/// does, as in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LabelRequirement {
    /// The key of the label.
    pub key: String,
    /// `in`, `notin`, `exists` or `missing`.
    pub op: &'static str,
    /// For `in` and `notin`; sorted.
    pub values: Vec<String>,
}

/// Requirements that must all hold; an empty selector matches everything. They are sorted,
/// so that selectors with the same requirements are equal and have the same text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Selector(Vec<LabelRequirement>);

/// Why a text is not a selector.
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
    pub fn requirements(&self) -> &[LabelRequirement] {
        &self.0
    }

    /// Whether the selector has no requirement.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels fulfil every requirement. The function `kindler_matches` of the
    /// database does the same.
    pub fn matches(&self, labels: &Value) -> bool {
        self.0.iter().all(|one| {
            let label = labels.get(&one.key);
            let text = label.and_then(as_text);
            let listed = text.is_some_and(|text| one.values.iter().any(|value| *value == text));
            match one.op {
                "in" => listed,
                "notin" => !listed,
                "exists" => label.is_some(),
                _ => label.is_none(),
            }
        })
    }
}

/// The text of a label for comparison; null exists, but equals no text.
fn as_text(label: &Value) -> Option<Cow<'_, str>> {
    match label {
        Value::Null => None,
        Value::String(text) => Some(text.into()),
        other => Some(other.to_string().into()),
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut all: Vec<LabelRequirement> = parts(text)
            .into_iter()
            .filter(|part| !part.trim().is_empty())
            .map(requirement)
            .collect::<Result<_, _>>()?;
        all.sort_unstable();
        all.dedup();
        Ok(Self(all))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, LabelRequirement { key, op, values }) in self.0.iter().enumerate() {
            f.write_str(if n == 0 { "" } else { "," })?;
            match *op {
                "exists" => f.write_str(key)?,
                "missing" => write!(f, "!{key}")?,
                "in" if values.len() == 1 => write!(f, "{key}={}", values[0])?,
                "notin" if values.len() == 1 => write!(f, "{key}!={}", values[0])?,
                op => write!(f, "{key} {op} ({})", values.join(","))?,
            }
        }
        Ok(())
    }
}

/// Splits a text at its commas, except within parentheses.
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

fn requirement(part: &str) -> Result<LabelRequirement, SelectorError> {
    let rejected = || SelectorError {
        part: part.trim().chars().take(80).collect(),
    };
    let made = |key: &str, op, mut values: Vec<&str>| {
        values.sort_unstable();
        values.dedup();
        let fine = is_word(key, false) && values.iter().all(|value| is_word(value, true));
        fine.then(|| LabelRequirement {
            key: key.to_owned(),
            op,
            values: values.into_iter().map(str::to_owned).collect(),
        })
        .ok_or_else(rejected)
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
            _ => Err(rejected()),
        };
    }
    match part.strip_prefix('!') {
        Some(key) => made(key.trim(), "missing", Vec::new()),
        None => made(part, "exists", Vec::new()),
    }
}

/// Whether a text can be the key or value of a label.
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
    fn an_invalid_part_is_rejected_and_named() {
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

    #[test]
    fn equal_selectors_have_one_text() {
        for (text, canonical) in [
            ("", ""),
            (" , ", ""),
            ("host==a", "host=a"),
            ("host in (a)", "host=a"),
            ("host=", "host="),
            (
                "tier notin ( b ,a, b ), host=a,host = a",
                "host=a,tier notin (a,b)",
            ),
            ("!old, env, region != eu", "env,!old,region!=eu"),
        ] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn labels_that_are_not_texts_compare_as_json() {
        assert!(matches("n=1,t=true", json!({"n": 1, "t": true})));
        assert!(matches("n,n!=x", json!({"n": null})));
    }

    proptest::proptest! {
        #[test]
        fn the_order_of_requirements_does_not_matter(mut parts in proptest::collection::vec("!?[ab]|[ab]!?=[cd]?|[ab] (in|notin) \\([cd],[cd]\\)", 0..5)) {
            let one = parts.join(",").parse::<Selector>().unwrap();
            parts.reverse();
            let other = parts.join(" , ").parse::<Selector>().unwrap();
            proptest::prop_assert_eq!(&one, &other);
            proptest::prop_assert_eq!(one.to_string(), other.to_string());
        }

        #[test]
        fn any_text_is_rejected_or_parses_back_equal(text in "[a-c=!(), in]{0,24}") {
            if let Ok(selector) = text.parse::<Selector>() {
                proptest::prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
            }
        }
    }
}
