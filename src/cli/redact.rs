//! The last guard before stderr: passwords of URLs and tokens that stood in a
//! wrong place and came back in an error.

use crate::access::TOKEN_PREFIX;

/// The text with the passwords of its URLs replaced.
pub(super) fn without_passwords(text: &str) -> String {
    let hidden = hide_after(
        text,
        "://",
        |c| c.is_whitespace() || "\"'`<>".contains(c),
        userinfo,
    );
    let hidden = hide_after(
        &hidden,
        "password=",
        |c| c.is_whitespace() || "&\"'`".contains(c),
        |_| "***".to_owned(),
    );
    hide_after(
        &hidden,
        TOKEN_PREFIX,
        |c| !(c.is_ascii_alphanumeric() || "-_".contains(c)),
        |_| "***".to_owned(),
    )
}

/// Replaces what follows each `mark`, up to a character that ends it.
fn hide_after(
    text: &str,
    mark: &str,
    ends: impl Fn(char) -> bool,
    hide: impl Fn(&str) -> String,
) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(mark) {
        let start = at + mark.len();
        let end = rest[start..].find(&ends).map_or(rest.len(), |n| start + n);
        shown.push_str(&rest[..start]);
        shown.push_str(&hide(&rest[start..end]));
        rest = &rest[end..];
    }
    shown + rest
}

/// `user:password@host/name` without the password, also when the text was cut
/// before the `@`.
fn userinfo(url: &str) -> String {
    let Some((user, secret)) = url.split_once(':') else {
        return url.to_owned();
    };
    // Our own words on how to write one.
    if user.starts_with("USER") {
        return url.to_owned();
    }
    match secret.rsplit_once('@') {
        Some((_, place)) => format!("{user}:***@{place}"),
        // A port, and not a password.
        None if secret.split('/').next().is_some_and(is_port) => url.to_owned(),
        None => format!("{user}:***"),
    }
}

fn is_port(text: &str) -> bool {
    text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_hidden_and_the_rest_is_kept() {
        for (text, shown) in [
            (
                "at postgresql://u:p@ss/w@h:1/d?x",
                "at postgresql://u:***@h:1/d?x",
            ),
            ("name \"postgresql://u:hunter2", "name \"postgresql://u:***"),
            (
                "http://127.0.0.1:8080/ and http://h/",
                "http://127.0.0.1:8080/ and http://h/",
            ),
            ("host=h password=x y", "host=h password=*** y"),
            (
                "use postgresql://USER[:PASSWORD]@HOST/NAME",
                "use postgresql://USER[:PASSWORD]@HOST/NAME",
            ),
            ("'kdl_aB-9_x' is no name", "'kdl_***' is no name"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }
}
