//! As much of PromQL as the tests need to see: which metrics an expression
//! reads, by which selectors, over which ranges. Not a parser: promtool is.

use std::collections::BTreeSet;

/// The metrics of an expression, each as often as it is read. All of ours are
/// written with braces.
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

/// What stands between braces.
pub(super) fn selectors(expr: &str) -> Vec<&str> {
    let parts = expr.split('{').skip(1);
    parts.map(|rest| rest.split('}').next().unwrap()).collect()
}

/// What stands between brackets behind a selector.
pub(super) fn ranges(expr: &str) -> Vec<&str> {
    let parts = expr.split("}[").skip(1);
    parts.map(|rest| rest.split(']').next().unwrap()).collect()
}

/// An expression of a panel with its variables filled in.
pub(super) fn filled_in(expr: &str, rate_interval: &str, name: &str) -> String {
    let filled = expr
        .replace("$__rate_interval", rate_interval)
        .replace("$job", "kindler")
        .replace("$instance", ".+")
        .replace("$name", name);
    assert!(!filled.contains('$'), "a variable is left: {filled}");
    filled
}

/// The names of the samples of a scrape.
pub(super) fn scraped(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| Some(line.split([' ', '{']).next()?.to_owned()))
        .collect()
}

#[test]
fn metrics_selectors_and_ranges_are_seen() {
    let expr = r#"60 * sum(rate(a_total{job="x",b=~".+"}[5m])) / max by (c) (d:e{job="y"})"#;
    assert_eq!(metrics(expr), ["a_total", "d:e"]);
    assert_eq!(selectors(expr), [r#"job="x",b=~".+""#, r#"job="y""#]);
    assert_eq!(ranges(expr), ["5m"]);
    assert_eq!(
        scraped("# HELP a b\na{c=\"d\"} 1\nb 2\n"),
        BTreeSet::from(["a".to_owned(), "b".to_owned()])
    );
}
