//! Texts in a database whose encoding is not UTF-8: what the encoding cannot hold is
//! replaced, so that the rest of a status is written.
//!
//! Only the server knows what its encoding can hold, so it is asked, and only after it
//! refused a text.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Connections, DatabaseError};

/// What stands for a character that cannot be stored.
const REPLACEMENT: char = '?';

/// How many statements may search for characters that cannot be stored; the others that
/// are not known by then are replaced too.
const MAX_QUESTIONS: usize = 48;

/// Fails if the encoding of the database cannot hold the characters.
const HOLDS: &str = "SELECT convert_from($1, 'UTF8') IS NOT NULL AS holds";

impl Connections {
    /// The value, with every character replaced that the database cannot hold.
    pub(crate) async fn storable(&self, value: &Value) -> Value {
        let mut used = BTreeSet::new();
        each_text(value, &mut |text| {
            used.extend(text.chars().filter(|c| !c.is_ascii()))
        });
        let held = self.held(used.into_iter().collect()).await;
        replaced(value, &|c| (c.is_ascii() && c != '\0') || held.contains(&c))
    }

    /// Which of these characters the database can hold: asks for all of them, and for each
    /// half of those that it refuses.
    async fn held(&self, characters: Vec<char>) -> BTreeSet<char> {
        let (mut held, mut asked) = (BTreeSet::new(), 0);
        let mut unknown = vec![characters];
        while let Some(characters) = unknown.pop() {
            if characters.is_empty() || asked == MAX_QUESTIONS {
                continue;
            }
            asked += 1;
            let text: String = characters.iter().collect();
            let bytes = text.as_bytes();
            match self.rows("test an encoding", HOLDS, &[&bytes]).await {
                Ok(_) => held.extend(characters),
                Err(DatabaseError::Unencodable { .. }) if characters.len() > 1 => {
                    let (first, second) = characters.split_at(characters.len() / 2);
                    unknown.extend([first.to_vec(), second.to_vec()]);
                }
                Err(_) => {}
            }
        }
        held
    }
}

fn each_text(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(values) => values.iter().for_each(|value| each_text(value, visit)),
        Value::Object(fields) => fields.values().for_each(|value| each_text(value, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn replaced(value: &Value, holds: &impl Fn(char) -> bool) -> Value {
    match value {
        Value::String(text) => {
            let stored = |c| if holds(c) { c } else { REPLACEMENT };
            Value::String(text.chars().map(stored).collect())
        }
        Value::Array(values) => values.iter().map(|value| replaced(value, holds)).collect(),
        Value::Object(fields) => {
            let fields = fields.iter();
            let replaced = fields.map(|(name, value)| (name.clone(), replaced(value, holds)));
            Value::Object(replaced.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_held_is_replaced() {
        let value = serde_json::json!({ "a": ["na\u{ef}ve \u{2713}\0", 1, null], "b": true });
        let latin1 = |c: char| u32::from(c) < 0x100 && c != '\0';
        let expected = serde_json::json!({ "a": ["na\u{ef}ve ??", 1, null], "b": true });
        assert_eq!(replaced(&value, &latin1), expected);
    }
}
