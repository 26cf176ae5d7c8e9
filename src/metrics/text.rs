//! Writes families in the text format that are rebuilt at each scrape. 10,000
//! clusters are 200,000 lines; writing them directly avoids the cost of the
//! registry.

use std::fmt::Write;

use crate::core::metrics::Family;

/// Text of families.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
}

/// The series of one family, while it is written.
pub(super) struct Series<'a> {
    text: &'a mut String,
    family: &'static Family,
}

impl Text {
    /// Starts a family; its series must follow directly.
    pub(super) fn family(&mut self, family: &'static Family) -> Series<'_> {
        let Family { name, help, .. } = family;
        let kind = family.kind.as_str();
        let help = help.replace('\\', "\\\\");
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Series {
            text: &mut self.text,
            family,
        }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

impl Series<'_> {
    /// Writes one series; the label values are in the family's order.
    pub(super) fn set(&mut self, labels: &[&str], value: f64) {
        debug_assert_eq!(labels.len(), self.family.labels.len());
        self.text.push_str(self.family.name);
        for (n, (label, value)) in self.family.labels.iter().zip(labels).enumerate() {
            self.text.push(if n == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// Names need no escape, but a row of the bash system may break the name rule.
fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue as names;
    use super::*;

    #[test]
    fn labels_are_escaped_and_numbers_are_plain() {
        let mut text = Text::default();
        text.family(&names::CLUSTER_CREATED)
            .set(&["a\"b\\c\nd"], 1.8e9);
        text.family(&names::DELETIONS_DEFERRED).set(&[], 0.5);
        let text = text.finish();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                r#"kindler_cluster_created{name="a\"b\\c\nd"} 1800000000"#,
                "kindler_deletions_deferred 0.5"
            ]
        );
        assert!(text.contains("# TYPE kindler_deletions_deferred gauge\n"));
    }
}
