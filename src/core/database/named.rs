//! Parameters by name: `:name` in a statement's text, a field of a struct in Rust.
//!
//! Postgres has positions only: each name in the text becomes the position of its field.
//! The compiler rejects a call without one of the parameters. A test rejects a text whose
//! names are not those of the fields.

/// Declares the parameters of a statement as a struct. `NAMES` and `values` have
/// the same order.
macro_rules! named_parameters {
    ($(#[$doc:meta])* $name:ident { $($parameter:ident),+ $(,)? }) => {
        $(#[$doc])*
        pub(crate) struct $name<'a> {
            $(pub(crate) $parameter: $crate::core::database::Param<'a>,)+
        }

        impl<'a> $name<'a> {
            pub(crate) const NAMES: &'static [&'static str] = &[$(stringify!($parameter)),+];

            pub(crate) fn values(&self) -> [$crate::core::database::Param<'a>; [$(stringify!($parameter)),+].len()] {
                [$(self.$parameter),+]
            }
        }
    };
}
pub(crate) use named_parameters;

/// The text with `$n` for the n-th of the names.
pub(crate) fn numbered(text: &str, names: &[&str]) -> String {
    let mut sql = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, name, after)) = next_name(rest) {
        sql.push_str(before);
        match names.iter().position(|known| *known == name) {
            Some(index) => sql.push_str(&format!("${}", index + 1)),
            None => sql.push_str(&rest[before.len()..rest.len() - after.len()]),
        }
        rest = after;
    }
    sql.push_str(rest);
    sql
}

/// The next `:name` with what precedes and follows it; `::type` is a cast.
fn next_name(text: &str) -> Option<(&str, &str, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    for (at, _) in text.match_indices(':') {
        let after = &text[at + 1..];
        let length = after.find(|c| !is_word(c)).unwrap_or(after.len());
        if length > 0 && !text[..at].ends_with(':') {
            return Some((&text[..at], &after[..length], &after[length..]));
        }
    }
    None
}

/// The names that are only in the text or only in the list.
#[cfg(test)]
pub(crate) fn unmatched_names(text: &str, names: &[&str]) -> Vec<String> {
    let mut used = Vec::new();
    let mut rest = text;
    while let Some((_, name, after)) = next_name(rest) {
        used.push(name);
        rest = after;
    }
    let unknown = used.iter().filter(|name| !names.contains(name));
    let unused = names.iter().filter(|name| !used.contains(name));
    unknown.chain(unused).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    named_parameters! { Pair { one, other } }

    #[test]
    fn each_name_becomes_the_position_of_its_field() {
        let text = "SELECT :other::text, :one, a::jsonb ? ':', :one_more, x[1:2], :other";
        assert_eq!(
            numbered(text, Pair::NAMES),
            "SELECT $2::text, $1, a::jsonb ? ':', :one_more, x[1:2], $2"
        );
        let pair = Pair {
            one: &1_i32,
            other: &"2",
        };
        assert_eq!(format!("{:?}", pair.values()), "[1, \"2\"]");
    }

    #[test]
    fn unmatched_names_are_found() {
        assert_eq!(
            unmatched_names(":one + :three", Pair::NAMES),
            ["three", "other"]
        );
        assert!(unmatched_names(":one::int, :other", Pair::NAMES).is_empty());
    }
}
