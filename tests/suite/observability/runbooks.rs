//! The runbooks: one for each alert, and every command, statement and link in them
//! works.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::alerts;
use crate::deploy::{assert_is_a_command, package, printed, read, repository, succeeds};
use crate::kit::{Database, Host, Sql, kindler};

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

/// The pages whose commands and statements are checked.
fn checked_pages() -> Vec<PathBuf> {
    let mut pages = pages();
    pages.push(repository("docs/OPERATIONS.md"));
    pages
}

/// What is between backticks outside of blocks.
fn inline(text: &str) -> Vec<String> {
    let outside: String = text.split("```").step_by(2).collect();
    let codes = outside.split('`').skip(1).step_by(2);
    codes
        .map(|code| code.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// Every command line of `kindler` on a page, without what precedes it.
fn kindler_commands(text: &str) -> Vec<Vec<String>> {
    let blocks = fenced(text, "console");
    let shown = blocks.iter().flat_map(|block| block.lines());
    let shown = shown.filter_map(|line| line.strip_prefix("$ ").or(line.strip_prefix("# ")));
    let mut commands = Vec::new();
    for line in shown.map(str::to_owned).chain(inline(text)) {
        let line = line.split(" #").next().unwrap().split("  ").next().unwrap();
        let mut words = line
            .split_whitespace()
            .skip_while(|word| word.starts_with("KINDLER_"));
        if words.next() == Some("kindler") {
            let words = words.take_while(|word| !["||", "|", ">", "&&"].contains(word));
            commands.push(words.map(|word| word.replace("NAME", "dev")).collect());
        }
    }
    commands
}

/// The program parses each as it is printed; no database answers, so that it does nothing.
#[test]
fn every_kindler_command_on_a_page_is_valid() {
    let host = Host::new();
    let mut commands = BTreeSet::new();
    for page in checked_pages() {
        let found = kindler_commands(&read(&page)).into_iter();
        commands.extend(found.filter(|words: &Vec<String>| !words.is_empty()));
    }
    assert!(commands.len() > 20, "{commands:?}");
    for words in commands {
        // A verb alone stands for its commands; the others do not end.
        let stays = ["serve", "dev"].contains(&words[0].as_str()) || words.contains(&"-f".into());
        if stays || words.len() == 1 {
            assert_is_a_command(&words);
            continue;
        }
        let output = kindler("postgresql://u@127.0.0.1:1/x", &host)
            .args(&words)
            .output()
            .unwrap();
        let said = printed(&output);
        let misused = ["Usage: ", "try '--help'"]
            .iter()
            .any(|words| said.contains(words));
        assert!(!misused, "kindler {words:?}: {said}");
    }
}

/// Each statement runs with the login that the page names: what reads with that of the
/// daemon, what changes rows with that of the page. Nothing else may be needed.
#[tokio::test]
async fn every_statement_on_a_page_runs_with_its_login() {
    let database = Database::create().await;
    let host = Host::new();
    let migrated = kindler(&database.url(), &host).arg("migrate").status();
    assert!(migrated.unwrap().success());
    let admin = database.connect().await;
    admin.run(include_str!("../../../sql/roles.sql")).await;
    let mut logins = Vec::new();
    for role in ["kindler_daemon", "kindler_api"] {
        let login = format!("{role}_{}", database.name());
        admin
            .run(&format!("CREATE ROLE \"{login}\" LOGIN IN ROLE {role}"))
            .await;
        logins.push(database.connect_as(&login).await);
    }
    let mut ran = 0;
    for page in checked_pages() {
        let text = read(&page);
        let inline = inline(&text).into_iter();
        let inline = inline.filter(|code| {
            let verbs = [
                "SELECT ", "UPDATE ", "INSERT ", "DELETE ", "ALTER ", "GRANT ", "VACUUM ",
            ];
            verbs.iter().any(|verb| code.starts_with(verb))
        });
        for statement in fenced(&text, "sql").into_iter().chain(inline) {
            // No such process, and a role of this test.
            let statement = statement
                .replace("(PID)", "(0)")
                .replace("reconciler", "kindler_reader");
            let client = match statement.split_whitespace().next().unwrap() {
                "SELECT" => &logins[0],
                "UPDATE" => &logins[1],
                // As an administrator, and as if it had not been.
                _ => &admin,
            };
            let undone = format!("BEGIN; {statement}; ROLLBACK");
            let statement = if statement.starts_with("VACUUM") {
                &statement
            } else {
                &undone
            };
            let done = client.batch_execute(statement).await;
            done.unwrap_or_else(|error| panic!("{}: {error:?}\n{statement}", page.display()));
            ran += 1;
        }
    }
    assert!(ran > 25, "{ran}");
}

/// The statement of the alert, its runbook and `kindler status` is one.
#[test]
fn the_statement_that_stops_a_wave_is_the_same_everywhere() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let runbook = words(&read(repository(FOLDER).join("deletionwave.md")));
    let rules = words(&read(repository(super::RULES)));
    for text in [runbook, rules] {
        assert!(text.contains(kindler::store::STOP_DELETIONS), "{text}");
    }
}

/// Everything that a page links to or names by its path is in the Debian package.
#[test]
fn every_file_that_a_page_names_is_in_the_package() {
    let folder = TempDir::new().unwrap();
    let Some(package) = package::build(folder.path()) else {
        return;
    };
    let root = folder.path().join("root");
    succeeds(Command::new("dpkg-deb").arg("-x").arg(package).arg(&root));
    let documents = root.join("usr/share/doc/kindler");
    let mut named = 0;
    for page in pages() {
        let installed = documents.join(FOLDER).join(page.file_name().unwrap());
        let text = read(&installed);
        let links = text
            .split("](")
            .skip(1)
            .map(|rest| rest.split([')', '#']).next().unwrap());
        let links = links.filter(|link| !link.is_empty() && !link.contains("://"));
        let linked = links.map(|link| installed.parent().unwrap().join(link));
        let paths = text.split("/usr/share/doc/kindler").skip(1).map(|rest| {
            let path = rest.split([' ', '`', ',', '"', ';', '\n']).next().unwrap();
            documents.join(path.trim_matches(['/', '.']))
        });
        for path in linked.chain(paths) {
            assert!(path.exists(), "{}: {}", page.display(), path.display());
            named += 1;
        }
    }
    assert!(named > 100, "{named}");
}

/// The anchors of the headings, as GitHub makes them.
fn sections(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// Pages, sections, files and settings that a page names exist.
#[test]
fn every_link_and_setting_of_a_runbook_exists() {
    let known: Vec<_> = kindler::config::settings()
        .into_iter()
        .map(|setting| setting.env)
        .collect();
    for page in checked_pages() {
        let text = read(&page);
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            let (target, section) = link.split_once('#').unwrap_or((link, ""));
            let path = match target {
                "" => page.clone(),
                _ => page.parent().unwrap().join(target),
            };
            assert!(path.exists(), "{}: {target}", page.display());
            let has_section = section.is_empty() || sections(&read(&path)).contains(section);
            assert!(
                has_section,
                "{}: {link} has no such section",
                page.display()
            );
        }
        for rest in text.split("KINDLER_").skip(1) {
            let ending: String = rest
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || *c == '_')
                .collect();
            let name = format!("KINDLER_{ending}");
            // What a command of the driver gets is no setting.
            let known = known.contains(&name) || name == "KINDLER_TERM";
            assert!(known, "{}: {name}", page.display());
        }
    }
}
