//! Hides what looks like a secret in the output of commands and in error messages.
//!
//! This is best effort: a secret without a recognizable context is hidden only if its
//! value is known ([`Redactor::new`]). In doubt text is hidden, because a leaked
//! password costs more than a hidden word.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use regex::bytes::{Captures, Regex, RegexBuilder};

/// The replacement of a secret.
const HIDDEN: &[u8] = b"***";

/// Shorter values are too likely to occur as normal text.
const SHORTEST_KNOWN: usize = 6;

/// The named group of a match is kept, the rest is hidden.
static LOOKS_SECRET: LazyLock<Regex> = LazyLock::new(|| {
    let value = r#"(?:"[^"]*"|'[^']*'|[^\s"'&,;`<>]+)"#;
    let word = "(?:password|passwd|passphrase|secret|token|jwt|api[_-]?key|access[_-]?key|\
                secret[_-]?key|private[_-]?key|edge[_-]?key|key-data|credentials?)";
    let pattern = [
        // postgresql://user:password@host; not a port, and not the template of a URL
        // in Kindler's own messages.
        r#"(?P<user>://[^\s:/@"'`<>]*:)[^\s"'`<>]+@"#.to_owned(),
        // ADMIN_PASSWORD=value, "token": "value", client-key-data: value.
        format!(r#"(?P<key>{word}["']?\s*[=:]\s*){value}"#),
        // --admin-password value
        format!(r#"(?P<flag>--[a-z-]*{word}\s+){value}"#),
        r"(?P<scheme>\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{8,}".to_owned(),
        // Tokens with a known form: Kindler's, JWTs, those of Git servers.
        r"\bkdl_[a-z0-9_-]{4,}".to_owned(),
        r"\beyj[a-z0-9_-]{8,}\.[a-z0-9_-]+\.[a-z0-9_-]*".to_owned(),
        r"\b(?:gh[pousr]_|github_pat_|glpat-)[a-z0-9_-]{16,}".to_owned(),
    ]
    .join("|");
    of_bytes(&pattern, true)
});

static KEY_BEGINS: LazyLock<Regex> =
    LazyLock::new(|| of_bytes("-----BEGIN [A-Z ]*PRIVATE KEY", false));
static KEY_ENDS: LazyLock<Regex> = LazyLock::new(|| of_bytes("-----END [A-Z ]*PRIVATE KEY", false));
/// The template of a URL in Kindler's own messages.
static URL_TEMPLATE: LazyLock<Regex> =
    LazyLock::new(|| of_bytes(r"USER(?:\[:PASSWORD\]|:PASSWORD)", false));
/// A URL with a user whose text may be cut before its `@`.
static CUT_URL: LazyLock<Regex> = LazyLock::new(|| {
    of_bytes(
        r#"(?P<user>://[^\s:/@"'`<>]*:)(?P<rest>[^\s"'`<>]+)"#,
        false,
    )
});

/// The names of variables that hold secrets.
static SECRET_NAME: LazyLock<Regex> = LazyLock::new(|| {
    let names = r"passw|passphrase|secret|token|credential|_key$|^key$";
    of_bytes(names, true)
});

/// A pattern of bytes, without Unicode: the release build of `regex` lacks the Unicode
/// tables, and tests would not notice, because their dependencies enable them.
fn of_bytes(pattern: &str, any_case: bool) -> Regex {
    RegexBuilder::new(pattern)
        .case_insensitive(any_case)
        .unicode(false)
        .build()
        .expect("a constant")
}

/// Hides secrets in the lines of one stream; a private key may span lines.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    known: KnownSecrets,
    in_key: bool,
}

/// Values that are hidden wherever they occur.
#[derive(Clone, Default)]
pub struct KnownSecrets {
    values: Arc<[Vec<u8>]>,
    /// Matches any of the values.
    any: Option<Regex>,
}

impl KnownSecrets {
    /// Short values are ignored: hiding every `1` would make the output unreadable.
    pub fn new(values: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut known: Vec<Vec<u8>> = values
            .into_iter()
            .filter(|value| value.len() >= SHORTEST_KNOWN)
            .collect();
        // The longest first: one value may be a part of another.
        known.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let escaped = known.iter().map(|value| escape(value));
        let any = escaped.collect::<Vec<_>>().join("|");
        let any = RegexBuilder::new(&any).unicode(false).build().ok();
        Self {
            any: any.filter(|_| !known.is_empty()),
            values: known.into(),
        }
    }

    /// Adds the values of variables whose names suggest a secret.
    pub fn and_variables(&self, variables: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        let secret = variables
            .into_iter()
            .filter(|(name, _)| SECRET_NAME.is_match(name))
            .map(|(_, value)| value);
        Self::new(self.values.iter().cloned().chain(secret))
    }
}

impl std::fmt::Debug for KnownSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KnownSecrets({} values)", self.values.len())
    }
}

impl Redactor {
    /// Also hides these values.
    pub fn new(known: KnownSecrets) -> Self {
        Self {
            known,
            in_key: false,
        }
    }

    /// Returns the lines with secrets hidden.
    pub fn lines(&mut self, mut block: Vec<u8>) -> Vec<u8> {
        // Commands may print a lot: the block is copied only if something is hidden.
        if let Some(known) = &self.known.any
            && let Cow::Owned(hidden) = known.replace_all(&block, HIDDEN)
        {
            block = hidden;
        }
        if let Cow::Owned(hidden) = LOOKS_SECRET.replace_all(&block, keep) {
            block = hidden;
        }
        if self.in_key || KEY_BEGINS.is_match(&block) {
            block = self.without_keys(&block);
        }
        block
    }

    /// Removes the lines between the first and the last line of a private key.
    fn without_keys(&mut self, block: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(block.len());
        for line in block.split_inclusive(|byte| *byte == b'\n') {
            let ends = KEY_ENDS.is_match(line);
            if !self.in_key || ends {
                kept.extend_from_slice(line);
            }
            self.in_key = (self.in_key || KEY_BEGINS.is_match(line)) && !ends;
        }
        kept
    }
}

fn keep(found: &Captures<'_>) -> Vec<u8> {
    let kept = ["user", "key", "flag", "scheme"]
        .into_iter()
        .find_map(|group| found.name(group));
    let kept = kept.map_or(&b""[..], |group| group.as_bytes());
    let ends: &[u8] = if found.name("user").is_some() {
        b"@"
    } else {
        b""
    };
    [kept, HIDDEN, ends].concat()
}

/// A pattern that matches exactly these bytes.
fn escape(value: &[u8]) -> String {
    value.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// Hides secrets in a text, also in a URL that was cut before its `@`.
pub fn without_secrets(text: &str) -> String {
    let hidden = LOOKS_SECRET.replace_all(text.as_bytes(), |found: &Captures<'_>| {
        if URL_TEMPLATE.is_match(&found[0]) {
            return found[0].to_vec();
        }
        keep(found)
    });
    let hidden = CUT_URL.replace_all(&hidden, |found: &Captures<'_>| {
        let rest = &found["rest"];
        let port = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
        let is_port = port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
        let shown = is_port || rest.starts_with(HIDDEN) || found["user"].starts_with(b"://USER");
        if shown {
            found[0].to_vec()
        } else {
            [&found["user"], HIDDEN].concat()
        }
    });
    String::from_utf8_lossy(&hidden).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let lines = Redactor::default().lines(text.as_bytes().to_vec());
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn secrets_are_hidden() {
        for (text, expected) in [
            (
                "at postgresql://u:p@ss/w@h:1/d?x",
                "at postgresql://u:***@h:1/d?x",
            ),
            (
                "cloning https://git:hunter2@host/x.git",
                "cloning https://git:***@host/x.git",
            ),
            (
                "+ PORTAINER_ADMIN_PASSWORD=hunter2 ok",
                "+ PORTAINER_ADMIN_PASSWORD=*** ok",
            ),
            (r#"{"jwt":"abc.def","id":1}"#, r#"{"jwt":***,"id":1}"#),
            (r#"{"EdgeKey": "aGVsbG8"}"#, r#"{"EdgeKey": ***}"#),
            (
                "Authorization: Bearer abcdefgh.ijk",
                "Authorization: Bearer ***",
            ),
            (
                "    client-key-data: LS0tLS1CRUdJTg==",
                "    client-key-data: ***",
            ),
            (
                "argocd login --password hunter2 --insecure",
                "argocd login --password *** --insecure",
            ),
            (
                "argocd login --password='hun ter2' x",
                "argocd login --password=*** x",
            ),
            ("kdl_abcdefghijklmnopqrstuvwxyz", "***"),
            ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.c2ln!", "got ***!"),
            ("ghp_abcdefghijklmnopqrst0123", "***"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn text_about_secrets_is_kept() {
        for text in [
            "password authentication failed for user dev",
            "secret/argocd-manager-token created",
            "http://127.0.0.1:8080/ and http://h/",
            "creating cluster dev with --http-port 18080",
            "image: rancher/k3s:v1.30",
            "a basic check, the token is missing",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn known_values_are_hidden_everywhere() {
        let known =
            KnownSecrets::new([b"hunter2".to_vec(), b"hunter2-long".to_vec(), b"1".to_vec()]);
        let mut redactor = Redactor::new(known.clone());
        let lines = redactor.lines(b"is hunter2-long, not hunter2 (1)\n".to_vec());
        assert_eq!(lines, b"is ***, not *** (1)\n");
        let variables = [("GIT_PASSWORD", "swordfish"), ("GIT_USERNAME", "developer")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let mut redactor = Redactor::new(known.and_variables(variables));
        let lines = redactor.lines(b"developer swordfish hunter2\n".to_vec());
        assert_eq!(lines, b"developer *** ***\n");
        assert!(!format!("{known:?} {redactor:?}").contains("hunter"));
    }

    #[test]
    fn a_private_key_is_removed_across_blocks() {
        let mut redactor = Redactor::default();
        let mut shown = Vec::new();
        for block in [
            "before\n-----BEGIN RSA PRIVATE KEY-----\nAAAA\n",
            "BBBB\n",
            "CCCC\n-----END RSA PRIVATE KEY-----\nafter\n",
            "-----BEGIN CERTIFICATE-----\nDDDD\n-----END CERTIFICATE-----\n",
        ] {
            shown.extend(redactor.lines(block.as_bytes().to_vec()));
        }
        let shown = String::from_utf8(shown).unwrap();
        assert!(
            shown.starts_with("before\n-----BEGIN RSA PRIVATE KEY-----\n-----END"),
            "{shown}"
        );
        assert!(
            shown.contains("after\n") && shown.contains("DDDD"),
            "{shown}"
        );
    }

    #[test]
    fn passwords_of_urls_are_hidden_in_errors() {
        for (text, expected) in [
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
            (
                "as postgresql://USER:PASSWORD@HOST/NAME; x",
                "as postgresql://USER:PASSWORD@HOST/NAME; x",
            ),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_secrets(text), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_lost_and_no_password_is_kept(
            before in "[ -~]{0,40}", password in "[a-zA-Z0-9]{6,20}", after in "[ -~]{0,40}",
        ) {
            let text = format!("{before}\nx://u:{password}@h PASSWORD={password} \n{after}\n");
            let shown = shown(&text);
            proptest::prop_assert_eq!(shown.lines().count(), text.lines().count());
            let middle = shown.lines().find(|line| line.starts_with("x://")).unwrap();
            proptest::prop_assert!(!middle.contains(&password), "{}", middle);
        }
    }
}
