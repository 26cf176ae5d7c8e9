//! The TLS parameters of a database URL or of `key=value` pairs. The client library does
//! not know all of them, so they are taken out before it parses the rest. Pure.

use percent_encoding::percent_decode_str;

/// The parameters that are taken out.
const NAMES: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/// The values of the parameters, in the order of their appearance.
pub(super) type Taken = Vec<(&'static str, String)>;

/// The text without the TLS parameters, and their values. A text that is malformed stays
/// as it is: the client library reports it.
pub(super) fn take(text: &str) -> (String, Taken) {
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        take_from_url(text)
    } else {
        take_from_pairs(text).unwrap_or_else(|| (text.to_owned(), Taken::new()))
    }
}

fn known(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

/// A password may contain a question mark, so the query begins after the first one behind
/// the credentials.
fn take_from_url(url: &str) -> (String, Taken) {
    let behind = url.find('@').unwrap_or(0);
    let Some(query) = url[behind..].find('?').map(|at| behind + at) else {
        return (url.to_owned(), Taken::new());
    };
    let (mut taken, mut kept) = (Taken::new(), Vec::new());
    for pair in url[query + 1..].split('&') {
        let known = pair.split_once('=').and_then(|(name, value)| {
            let name = known(&decoded(name)?)?;
            Some((name, decoded(value)?))
        });
        match known {
            Some(parameter) => taken.push(parameter),
            None => kept.push(pair),
        }
    }
    let mut rest = url[..query].to_owned();
    if kept.iter().any(|pair| !pair.is_empty()) {
        rest.push('?');
        rest.push_str(&kept.join("&"));
    }
    (rest, taken)
}

/// A text with its percent codes decoded; none if it is not UTF-8 then.
fn decoded(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.ok().map(Into::into)
}

/// As libpq: spaces around `=`, values in single quotes, backslashes before characters.
fn take_from_pairs(text: &str) -> Option<(String, Taken)> {
    let (mut taken, mut kept) = (Taken::new(), String::new());
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, behind) = rest.split_once('=')?;
        let behind = behind.trim_start();
        let (value, length) = pair_value(behind)?;
        let pair = &rest[..rest.len() - behind.len() + length];
        match known(name.trim()) {
            Some(name) => taken.push((name, value)),
            None => {
                kept.push_str(pair);
                kept.push(' ');
            }
        }
        rest = behind[length..].trim_start();
    }
    Some((kept.trim_end().to_owned(), taken))
}

/// The value at the start of a text, and the length of its source.
fn pair_value(text: &str) -> Option<(String, usize)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            '\'' if quoted => return Some((value, at + 1)),
            c if c.is_whitespace() && !quoted => return Some((value, at)),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> (String, Vec<(&'static str, String)>) {
        take(text)
    }

    #[test]
    fn parameters_are_taken_out_of_a_url() {
        let url = "postgresql://u:a?b@h/d?sslmode=verify-full&application_name=x&sslrootcert=%2Fetc%2Fmy%20ca.crt";
        let (rest, found) = taken(url);
        assert_eq!(rest, "postgresql://u:a?b@h/d?application_name=x");
        let expected = [
            ("sslmode", "verify-full"),
            ("sslrootcert", "/etc/my ca.crt"),
        ];
        assert_eq!(
            found,
            expected.map(|(name, value)| (name, value.to_owned()))
        );
        for url in ["postgres://h/d", "postgres://h/d?a=b", "postgres://u:p?q@h"] {
            assert_eq!(taken(url), (url.to_owned(), Vec::new()));
        }
        assert_eq!(taken("postgres://h/d?sslmode=allow").0, "postgres://h/d");
    }

    #[test]
    fn parameters_are_taken_out_of_pairs() {
        let text = r"host=h sslmode = 'verify-ca' password='it\'s =' sslkey=/a\ b dbname=d";
        let (rest, found) = taken(text);
        assert_eq!(rest, r"host=h password='it\'s =' dbname=d");
        let expected = [("sslmode", "verify-ca"), ("sslkey", "/a b")];
        assert_eq!(
            found,
            expected.map(|(name, value)| (name, value.to_owned()))
        );
        for text in ["host=h", "hunter2", "password='open", ""] {
            assert_eq!(taken(text), (text.to_owned(), Vec::new()));
        }
    }
}
