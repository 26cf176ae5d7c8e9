//! What the tests ask of PromQL expressions.

use std::collections::BTreeSet;
use std::time::Duration;

use promql_parser::parser::{BinModifier, Expr, VectorSelector, parse};

/// Stands for `$__rate_interval`, which is no duration: no other range has this length.
pub(super) const RATE_INTERVAL: Duration = Duration::from_secs(61);

/// A selector in an expression.
pub(super) struct Selector {
    pub(super) metric: String,
    /// As written, such as `job="kindler"`.
    pub(super) matchers: Vec<String>,
    pub(super) range: Option<Duration>,
    /// The function that is called with it; empty if there is none.
    pub(super) function: &'static str,
}

fn parsed(expr: &str) -> Expr {
    let rate_interval = format!("{}s", RATE_INTERVAL.as_secs());
    let text = expr.replace("$__rate_interval", &rate_interval);
    parse(&text).unwrap_or_else(|error| panic!("{error}: {expr}"))
}

/// The selectors of an expression.
pub(super) fn selectors(expr: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    collect(&parsed(expr), "", &mut found);
    found
}

fn collect(expr: &Expr, function: &'static str, into: &mut Vec<Selector>) {
    let mut select = |vector: &VectorSelector, range| {
        into.push(Selector {
            metric: vector.name.clone().expect("a metric"),
            matchers: vector
                .matchers
                .matchers
                .iter()
                .map(ToString::to_string)
                .collect(),
            range,
            function,
        });
    };
    match expr {
        Expr::VectorSelector(vector) => select(vector, None),
        Expr::MatrixSelector(matrix) => select(&matrix.vs, Some(matrix.range)),
        Expr::Call(call) => {
            for argument in &call.args.args {
                collect(argument, call.func.name, into);
            }
        }
        Expr::Aggregate(aggregate) => collect(&aggregate.expr, "", into),
        Expr::Binary(binary) => {
            collect(&binary.lhs, "", into);
            collect(&binary.rhs, "", into);
        }
        Expr::Paren(paren) => collect(&paren.expr, "", into),
        Expr::Unary(unary) => collect(&unary.expr, "", into),
        Expr::Subquery(subquery) => collect(&subquery.expr, "", into),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

/// The operands of an alert's expression, without their conditions: split at `and`,
/// `or` and `unless`, with each comparison returning 0 or 1 instead of nothing. An
/// operand without a series then names a metric, label or match that does not exist.
pub(super) fn operands(expr: &str) -> Vec<String> {
    fn split(expr: Expr) -> Vec<Expr> {
        match expr {
            Expr::Paren(paren) => split(*paren.expr),
            Expr::Binary(binary) if binary.op.is_set_operator() => {
                [split(*binary.lhs), split(*binary.rhs)].concat()
            }
            // `absent` has no series, so its argument is checked.
            Expr::Call(mut call) if call.func.name == "absent" => split(*call.args.args.remove(0)),
            Expr::Binary(mut binary) if binary.op.is_comparison_operator() => {
                let modifier = binary.modifier.unwrap_or_default();
                binary.modifier = Some(BinModifier::with_return_bool(modifier, true));
                vec![Expr::Binary(binary)]
            }
            other => vec![other],
        }
    }
    split(parsed(expr))
        .iter()
        .map(ToString::to_string)
        .collect()
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
fn operands_are_the_inputs_of_an_alert() {
    let expr = "(max by (n) (a) > 0 or b == 1) unless on (n) max by (n) (c) >= 2";
    assert_eq!(
        operands(expr),
        [
            "max by (n) (a) > bool 0",
            "b == bool 1",
            "max by (n) (c) >= bool 2"
        ]
    );
    assert_eq!(operands("absent(up{job=\"x\"})"), ["up{job=\"x\"}"]);
    assert_eq!(
        operands("sum(a) / sum(b) > 10 * max(c)"),
        ["sum(a) / sum(b) > bool 10 * max(c)"]
    );
}
