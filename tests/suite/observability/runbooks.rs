//! The runbooks: one for each alert, and every command, statement and link in them
//! works.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::alerts;
use crate::deploy::{assert_is_a_command, read, repository};
use crate::kit::{Database, Host, kindler};

const FOLDER: &str = "docs/runbooks";

/// How every page opens: host, login and URL.
const WHERE: &str = "
## Where

On a host with the package, as root: `kindler` finds the URL of the service by itself, and SQL runs in
`psql \"$(cat /etc/credstore/kindler.database_url)\"`. What changes rows (`UPDATE`, `kindler retry`, `pause`,
`delete`) needs the page's login in `/etc/credstore/kindler.api_database_url`, or
[another one](README.md#where), which also lists other installations.

## What it means
";

fn pages() -> Vec<PathBuf> {
    let folder = fs::read_dir(repository(FOLDER)).unwrap();
    let mut pages: Vec<_> = folder.map(|file| file.unwrap().path()).collect();
    pages.sort();
    pages
}

/// The lines in the fenced blocks of a language.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    for rest in text.split(&format!("```{language}\n")).skip(1) {
        blocks.push(rest.split("```").next().unwrap().to_owned());
    }
    blocks
}

#[test]
fn every_alert_has_a_runbook_and_links_to_it() {
    let manifest = read(repository("Cargo.toml"));
    let of = |key: &str| {
        let line = manifest.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().trim_matches([' ', '=', '"']).to_owned()
    };
    let base = format!("{}/blob/main/{FOLDER}", of("repository"));
    let index = read(repository(FOLDER).join("README.md"));
    let mut expected = BTreeSet::from(["README.md".to_owned()]);
    for alert in alerts() {
        let file = format!("{}.md", alert.name.to_lowercase());
        assert_eq!(
            alert.rule["annotations"]["runbook_url"],
            format!("{base}/{file}")
        );
        assert_eq!(
            alert.rule["annotations"]["runbook_path"],
            format!("/usr/share/doc/kindler/{FOLDER}/{file}")
        );
        let page = read(repository(FOLDER).join(&file));
        let severity = alert.rule["labels"]["severity"].as_str().unwrap();
        assert!(page.starts_with(&format!("# {}\n\nSeverity: {severity}.", alert.name)));
        for part in [WHERE, "\n## How to see\n", "\n## What to do\n"] {
            assert!(page.contains(part), "{file} has no {part:?}");
        }
        let after = alert.rule["for"].as_str().unwrap();
        let row = format!("| [{}]({file}) | {severity} | {after} |", alert.name);
        assert!(index.contains(&row), "{row}");
        expected.insert(file);
    }
    let found: BTreeSet<_> = pages()
        .iter()
        .map(|page| page.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn every_kindler_command_in_a_runbook_exists() {
    let mut commands = BTreeSet::new();
    for page in pages() {
        let text = read(&page);
        let in_blocks = fenced(&text, "console");
        let shown = in_blocks
            .iter()
            .flat_map(|block| block.lines())
            .filter_map(|line| line.strip_prefix("$ "));
        // Commands in backticks, too.
        let inline = text.split('`').skip(1).step_by(2);
        for command in shown.chain(inline) {
            let command = command.split(" #").next().unwrap().trim();
            let Some(arguments) = command.strip_prefix("kindler ") else {
                continue;
            };
            let arguments = arguments.replace("NAME", "dev");
            commands.insert(arguments);
        }
    }
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let words: Vec<_> = command.split(' ').map(str::to_owned).collect();
        assert_is_a_command(&words);
    }
}

#[tokio::test]
async fn every_statement_in_a_runbook_runs() {
    let database = Database::create().await;
    let host = Host::new();
    let migrated = kindler(&database.url(), &host).arg("migrate").status();
    assert!(migrated.unwrap().success());
    let client = database.connect().await;
    let mut ran = 0;
    for page in pages() {
        for statement in fenced(&read(&page), "sql") {
            let done = client.batch_execute(&statement).await;
            done.unwrap_or_else(|error| panic!("{}: {error:?}\n{statement}", page.display()));
            ran += 1;
        }
    }
    assert!(ran > 8, "{ran}");
}

/// Pages, files and settings that a runbook names exist.
#[test]
fn every_link_and_setting_of_a_runbook_exists() {
    let known: Vec<_> = kindler::config::settings()
        .into_iter()
        .map(|setting| setting.env)
        .collect();
    for page in pages() {
        let text = read(&page);
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap();
            let path = page.parent().unwrap().join(target);
            assert!(path.exists(), "{}: {target}", page.display());
        }
        for rest in text.split("KINDLER_").skip(1) {
            let ending: String = rest
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || *c == '_')
                .collect();
            let name = format!("KINDLER_{ending}");
            assert!(known.contains(&name), "{}: {name}", page.display());
        }
    }
}
