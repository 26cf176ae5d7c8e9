//! The architecture: imports point downwards only, the core does not know clusters,
//! pure modules are pure, SQL and process spawning stay in their modules; names and
//! words follow the project's rules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module, layer by layer, each after those that it may import. A path of two
/// names is a submodule with its own place.
const LAYERS: [(&str, &[&str]); 5] = [
    ("texts", &["cause", "redact", "duration", "findings"]),
    ("the core, generic", &["core"]),
    ("the domain, pure", &["clusters", "access"]),
    (
        "edges",
        &["postgres", "command", "store", "live", "metrics", "drivers"],
    ),
    (
        "reconcile and outside",
        &["clusters/reconcile", "config", "http", "daemon", "cli"],
    ),
];

/// Modules without clocks, randomness and I/O.
const PURE: [&str; 5] = ["cause", "redact", "duration", "access", "clusters"];

/// The pure files of the core.
const PURE_CORE: [&str; 4] = [
    "core/backoff.rs",
    "core/lease.rs",
    "core/queue.rs",
    "core/steps/decide.rs",
];

fn order() -> Vec<&'static str> {
    LAYERS
        .iter()
        .flat_map(|(_, modules)| modules.iter().copied())
        .collect()
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
    files
}

/// The lines of shipped code: without comments, and up to the tests.
fn code(path: &Path) -> Vec<String> {
    if path.components().any(|part| part.as_os_str() == "tests") {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .take_while(|line| {
            !line.trim_start().starts_with("#[cfg(test)]") || line.starts_with("    ")
        })
        .map(str::trim)
        .filter(|line| !line.starts_with("//"))
        .map(str::to_owned)
        .collect()
}

/// The module of a file: the submodule with its own place, if there is one.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(src()).unwrap();
    let parts: Vec<&str> = inside.iter().map(|part| part.to_str().unwrap()).collect();
    place_of(&parts)
}

fn place_of(parts: &[&str]) -> String {
    let bare = |part: &str| part.trim_end_matches(".rs").to_owned();
    if let [first, second, ..] = parts {
        let nested = format!("{}/{}", bare(first), bare(second));
        if order().contains(&nested.as_str()) {
            return nested;
        }
    }
    bare(parts[0])
}

/// Every module of this crate that a line names.
fn modules_named_in(line: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.split("crate::")
        .skip(1)
        .map(|rest| {
            assert!(
                !rest.starts_with('{'),
                "use one import for each module: {line}"
            );
            let path = rest.split(|c| !is_word(c) && c != ':').next().unwrap_or("");
            let parts: Vec<&str> = path.split("::").collect();
            place_of(&parts)
        })
        .collect()
}

#[test]
fn every_module_is_in_a_layer() {
    let mut found: Vec<String> = rust_files(&src()).iter().map(|path| module(path)).collect();
    found.sort();
    found.dedup();
    found.retain(|name| name != "lib" && name != "main");
    let mut known = order();
    known.sort_unstable();
    assert_eq!(found, known);
}

#[test]
fn imports_point_downwards_only() {
    let order = order();
    let place = |name: &str| order.iter().position(|known| *known == name);
    let mut wrong = Vec::new();
    for path in rust_files(&src()) {
        let Some(here) = place(&module(&path)) else {
            continue;
        };
        for line in code(&path) {
            for name in modules_named_in(&line) {
                if place(&name).is_some_and(|there| there > here) {
                    wrong.push(format!("{}: {line}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "upward imports:\n{}", wrong.join("\n"));
}

/// The core works with any table, so it must not know Kindler's own.
#[test]
fn the_core_imports_nothing_of_clusters() {
    let allowed = ["cause", "core", "duration"];
    let mut wrong = Vec::new();
    for path in rust_files(&src().join("core")) {
        for line in code(&path) {
            for name in modules_named_in(&line) {
                if !allowed.contains(&name.as_str()) {
                    wrong.push(format!("{}: {line}", path.display()));
                }
            }
            if line.contains("crate::clusters") || line.contains("cluster_") {
                wrong.push(format!("{}: {line}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_modules_are_pure() {
    let impure = [
        "tokio",
        "async ",
        ".await",
        "::now()",
        "Instant::now",
        "SystemTime",
        "fastrand",
        "rand::",
        "std::fs",
        "std::net",
        "std::process",
        "std::env",
        "std::io",
        "println!",
        "tracing",
    ];
    // The crate behind the backoff requires an Instant, which it does not use.
    let excused = |path: &Path, word: &str| path.ends_with("backoff.rs") && word == "Instant::now";
    let mut wrong = Vec::new();
    for path in rust_files(&src()) {
        let inside = path.strip_prefix(src()).unwrap().to_str().unwrap();
        if !PURE.contains(&module(&path).as_str()) && !PURE_CORE.contains(&inside) {
            continue;
        }
        for line in code(&path) {
            for word in impure {
                if line.contains(word) && !excused(&path, word) {
                    wrong.push(format!("{}: {word} in: {line}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sql_and_spawning_stay_in_their_modules() {
    let rules: [(&[&str], &[&str]); 2] = [
        (
            &["SELECT ", "INSERT INTO", "UPDATE clusters", "DELETE FROM"],
            &["store", "core", "postgres"],
        ),
        // The sandbox's nodes are clusters, not commands: they outlive the daemon.
        (&["Command::new"], &["command", "postgres", "drivers"]),
    ];
    let mut wrong = Vec::new();
    for path in rust_files(&src()) {
        for (words, homes) in rules {
            if homes.contains(&module(&path).as_str()) {
                continue;
            }
            for line in code(&path) {
                if words.iter().any(|word| line.contains(word)) {
                    wrong.push(format!("{}: {line}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every binary contains the page, and browsers fetch it file by file.
#[test]
fn the_page_stays_under_a_hundred_kilobytes() {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let assets = fs::read_dir(web.join("assets")).unwrap();
    let files = assets.map(|entry| entry.unwrap().path());
    let bytes: u64 = files
        .chain([web.join("index.html")])
        .map(|file| fs::metadata(file).unwrap().len())
        .sum();
    assert!(bytes < 100_000, "{bytes} bytes");
}

#[test]
fn lines_of_the_page_have_at_most_120_columns() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/assets");
    for entry in fs::read_dir(assets).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "svg") {
            continue;
        }
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let columns = line.chars().count();
            let place = path.display();
            assert!(columns <= 120, "{place}:{}: {columns}", number + 1);
        }
    }
}

/// A reader who searches for a type finds one.
#[test]
fn type_names_are_unique() {
    let mut found = BTreeMap::<String, PathBuf>::new();
    for path in rust_files(&src()) {
        for line in code(&path) {
            let words: Vec<&str> = line.split([' ', '<', '(', ';', '{', ':']).collect();
            let named = words.windows(2).find_map(|pair| match pair {
                ["struct" | "enum" | "trait" | "union", name] => Some(*name),
                _ => None,
            });
            let declares = ["struct ", "enum ", "trait ", "union ", "pub"];
            let declares = declares.iter().any(|start| line.starts_with(start));
            // A macro has `$name` there.
            let is_name = |name: &&str| name.starts_with(char::is_uppercase);
            let Some(name) = named.filter(is_name).filter(|_| declares) else {
                continue;
            };
            if let Some(other) = found.insert(name.to_owned(), path.clone()) {
                let places = format!("{} and {}", other.display(), path.display());
                assert_eq!(other, path, "{name} is declared in {places}");
            }
        }
    }
    assert!(found.len() > 200, "{}", found.len());
}

/// Words that once stood for terms of the field; docs/GLOSSARY.md has the terms.
const METAPHORS: [&str; 21] = [
    "told", "heard", "nobody", "somebody", "whoever", "whomever", "doorbell", "hunt", "prey",
    "forsaken", "tenure", "wishes", "errand", "deed", "crew", "knock", "stray", "door", "doors",
    "declarer", "teeth",
];

/// The account of that name.
const KEPT: [&str; 2] = ["\"nobody\"", "`nobody`"];

#[test]
fn texts_use_the_terms_of_the_field() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = rust_files(&src());
    for folder in [
        "docs",
        "docs/runbooks",
        "web/assets",
        "sql/queries",
        "sql/core",
    ] {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        files.extend(
            entries
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.is_file()),
        );
    }
    files.extend(["README.md", "CHANGELOG.md"].map(|name| root.join(name)));
    let mut found = Vec::new();
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            let is_letter = |c: char| c.is_alphanumeric() || c == '_';
            let mut words = line.split(|c| !is_letter(c));
            let metaphor = words.find(|word| METAPHORS.contains(&word.to_lowercase().as_str()));
            if let Some(word) = metaphor
                && !KEPT.iter().any(|kept| line.contains(kept))
            {
                found.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn files_have_at_most_500_lines() {
    for path in rust_files(&src()) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 500, "{} has {lines} lines", path.display());
    }
}

/// The Unicode tables of `regex` are enabled by a test dependency only. A pattern that
/// needs them would panic in the shipped program alone.
#[test]
fn patterns_do_not_need_unicode_tables() {
    for path in rust_files(&src()) {
        let lines = code(&path);
        let count = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
        assert_eq!(count("Regex::new("), 0, "{}", path.display());
        let (built, bytes) = (count("RegexBuilder::new("), count(".unicode(false)"));
        assert_eq!(built, bytes, "{}", path.display());
    }
}

/// `%error` would write only the message of an error: a field that is a `&dyn Error` carries
/// its causes in every format.
#[test]
fn errors_in_log_lines_carry_their_causes() {
    for path in rust_files(&src()) {
        for line in code(&path) {
            let bare = ["%error", "?error", "error = %", "error = ?"];
            let found = bare.iter().find(|bare| line.contains(**bare));
            assert!(found.is_none(), "{}: {line}", path.display());
        }
    }
}
