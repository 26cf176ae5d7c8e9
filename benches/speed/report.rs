//! The table: a line for each figure as soon as it is known, and the arithmetic on
//! samples. It must not measure.

use std::time::Duration;

/// The target of a figure.
#[derive(Clone, Copy)]
pub enum Target {
    /// In the unit of the figure.
    AtMost(f64),
    /// For information only.
    None,
}

/// The title, with the description of the machine.
pub fn head(machine: &str) {
    println!("\n{machine}\n");
    println!("{:<50} {:>12} {:>10}", "figure", "measured", "target");
}

/// One figure in one unit.
pub fn figure(what: &str, value: f64, unit: &str, target: Target) {
    let shown = format!("{} {unit}", digits(value));
    let (target, verdict) = match target {
        Target::AtMost(most) if value <= most => (format!("<= {most} {unit}"), "pass"),
        Target::AtMost(most) => (format!("<= {most} {unit}"), "over"),
        Target::None => (String::new(), ""),
    };
    let line = format!(
        "{what:<50} {:>12} {:>10}  {verdict}",
        shown.trim(),
        target.trim()
    );
    println!("{}", line.trim_end());
}

/// Three significant digits.
fn digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// The value below which this share of the samples lies.
pub fn percentile(samples: &mut [f64], share: f64) -> f64 {
    assert!(!samples.is_empty(), "nothing was measured");
    samples.sort_by(f64::total_cmp);
    let last = samples.len() - 1;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let index = (last as f64 * share).round() as usize;
    samples[index.min(last)]
}

/// Milliseconds, with fractions.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
