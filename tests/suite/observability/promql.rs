//! Reads from PromQL expressions only what the tests need: metrics, selectors and
//! ranges. promtool is the parser.

use std::collections::BTreeSet;

/// The metrics of an expression, each as often as it occurs. Kindler's metrics are
/// always written with braces.
pub(super) fn metrics(expr: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    expr.match_indices('{')
        .map(|(at, _)| {
            let name = expr[..at].rsplit(|c| !is_part(c)).next().unwrap();
            assert!(!name.is_empty(), "braces without a metric: {expr}");
            name.to_owned()
        })
        .collect()
}

/// The texts in braces.
pub(super) fn selectors(expr: &str) -> Vec<&str> {
    let parts = expr.split('{').skip(1);
    parts.map(|rest| rest.split('}').next().unwrap()).collect()
}

/// The texts in brackets after a selector.
pub(super) fn ranges(expr: &str) -> Vec<&str> {
    let parts = expr.split("}[").skip(1);
    parts.map(|rest| rest.split(']').next().unwrap()).collect()
}

/// An expression of a panel with its variables replaced.
pub(super) fn with_variables(expr: &str, rate_interval: &str, name: &str) -> String {
    let filled = expr
        .replace("$__rate_interval", rate_interval)
        .replace("$job", "kindler")
        .replace("$instance", ".+")
        .replace("$name", name);
    assert!(!filled.contains('$'), "a variable is left: {filled}");
    filled
}

/// The names of the samples in a scrape.
pub(super) fn scraped(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| Some(line.split([' ', '{']).next()?.to_owned()))
        .collect()
}

#[test]
fn metrics_selectors_and_ranges_are_found() {
    let expr = r#"60 * sum(rate(a_total{job="x",b=~".+"}[5m])) / max by (c) (d:e{job="y"})"#;
    assert_eq!(metrics(expr), ["a_total", "d:e"]);
    assert_eq!(selectors(expr), [r#"job="x",b=~".+""#, r#"job="y""#]);
    assert_eq!(ranges(expr), ["5m"]);
    assert_eq!(
        scraped("# HELP a b\na{c=\"d\"} 1\nb 2\n"),
        BTreeSet::from(["a".to_owned(), "b".to_owned()])
    );
}

/// The operands of an alert's expression, without their conditions: split at `and`,
/// `or` and `unless`, with each comparison returning 0 or 1 instead of nothing. An
/// operand without a series then names a metric, label or match that does not exist.
pub(super) fn operands(expr: &str) -> Vec<String> {
    let expr = expr.trim();
    if let Some(inner) = enclosed(expr) {
        return operands(inner);
    }
    let parts = split_outside(expr, &[" and ", " or ", " unless "]);
    if parts.len() > 1 {
        return parts.iter().flat_map(|part| operands(part)).collect();
    }
    // The rest of a match: `on (a, b) x`.
    let expr = match expr.strip_prefix("on (") {
        Some(rest) => return operands(rest.split_once(')').unwrap().1),
        None => expr,
    };
    // `absent` has no series, so its argument is checked.
    if let Some(rest) = expr.strip_prefix("absent(") {
        return operands(rest.strip_suffix(')').unwrap());
    }
    let mut shown = expr.to_owned();
    for comparison in [" == ", " != ", " >= ", " <= ", " > ", " < "] {
        let parts = split_outside(&shown, &[comparison]);
        shown = parts.join(&format!("{comparison}bool "));
    }
    vec![shown]
}

/// The text inside parentheses that enclose the whole expression.
fn enclosed(expr: &str) -> Option<&str> {
    let inner = expr.strip_prefix('(')?.strip_suffix(')')?;
    let mut depth = 0_i32;
    for c in inner.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth < 0 {
            return None;
        }
    }
    Some(inner)
}

/// Splits at words outside of parentheses.
fn split_outside<'a>(expr: &'a str, words: &[&str]) -> Vec<&'a str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_i32, 0);
    for (at, c) in expr.char_indices() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        let word = words.iter().find(|word| expr[at..].starts_with(**word));
        if let (0, Some(word)) = (depth, word) {
            parts.push(&expr[from..at]);
            from = at + word.len();
        }
    }
    parts.push(&expr[from..]);
    parts
}

#[test]
fn operands_are_the_inputs_of_an_alert() {
    let expr = "(max by (n) (a{}) > 0 or b{} == 1) unless on (n) max by (n) (c{}) >= 2";
    assert_eq!(
        operands(expr),
        [
            "max by (n) (a{}) > bool 0",
            "b{} == bool 1",
            "max by (n) (c{}) >= bool 2"
        ]
    );
    assert_eq!(operands("absent(up{job=\"x\"})"), ["up{job=\"x\"}"]);
    assert_eq!(
        operands("sum(a{}) / sum(b{}) > 10 * max(c{})"),
        ["sum(a{}) / sum(b{}) > bool 10 * max(c{})"]
    );
}
