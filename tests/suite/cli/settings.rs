//! Where settings come from, and what is said of those that cannot be used.

use std::fs;

use super::rig::Home;

/// A URL that names who gave it and reaches nobody.
fn nowhere(user: &str) -> String {
    format!("postgresql://{user}@127.0.0.1:1/x")
}

async fn database_user(home: &Home, args: &[&str]) -> String {
    let said = home.run(&[&["list"], args].concat()).await.ends(2);
    let after = said
        .err
        .split_once("error: database ")
        .expect("names the database")
        .1;
    after.split_once('@').expect("names the user").0.to_owned()
}

#[tokio::test]
async fn flag_beats_environment_beats_file_beats_what_dev_left() {
    let home = Home::new();
    home.run(&["list"])
        .await
        .ends(2)
        .complains("error: no database is set\nhint: set KINDLER_DATABASE_URL");
    home.write("state/database-url", &nowhere("dev"));
    assert_eq!(database_user(&home, &[]).await, "dev");
    home.write(
        "kindler.toml",
        &format!("database_url = {:?}", nowhere("file")),
    );
    assert_eq!(database_user(&home, &[]).await, "file");
    let home = home.with("DATABASE_URL", nowhere("common"));
    assert_eq!(database_user(&home, &[]).await, "common");
    let home = home.with("KINDLER_DATABASE_URL", nowhere("own"));
    assert_eq!(database_user(&home, &[]).await, "own");
    assert_eq!(
        database_user(&home, &["--database-url", &nowhere("flag")]).await,
        "flag"
    );
    let home = home.with("KINDLER_DATABASE_URL", "");
    assert_eq!(database_user(&home, &[]).await, "common");
}

#[tokio::test]
async fn the_url_may_come_from_a_file_or_a_credential() {
    let home = Home::new().with("DATABASE_URL", nowhere("common"));
    let file = home.write("url", &format!("{}\n", nowhere("filed")));
    home.write("credentials/database_url", &nowhere("credential"));
    let credentials = home.path().join("credentials").display().to_string();
    let home = home.with("CREDENTIALS_DIRECTORY", "/nowhere");
    assert_eq!(database_user(&home, &[]).await, "common");
    let home = home.with("CREDENTIALS_DIRECTORY", credentials);
    assert_eq!(database_user(&home, &[]).await, "credential");
    home.write("kindler.toml", "database_url_file = \"url\"");
    assert_eq!(database_user(&home, &[]).await, "filed");
    home.write(
        "kindler.toml",
        "database_url_file = \"url\"\ndatabase_url = \"x\"",
    );
    home.run(&["list"])
        .await
        .ends(2)
        .complains("database_url and database_url_file are both set by the settings file");
    let home = home.with("KINDLER_DATABASE_URL_FILE", file.display().to_string());
    assert_eq!(database_user(&home, &[]).await, "filed");
    home.write("url", "postgresql://u:hunter2@h/d hunter2");
    let said = home.run(&["list"]).await.ends(2);
    assert!(
        said.err.contains("holds more than one word") && !said.err.contains("hunter2"),
        "{said:#?}"
    );
    home.run(&["list", "--database-url-file", "none"])
        .await
        .ends(2)
        .complains("the database URL cannot be read from none: No such file");
    // The URL itself, where it is set, needs no file; two in one place are a mistake.
    let home = home.with("KINDLER_DATABASE_URL", nowhere("own"));
    home.run(&["list"]).await.ends(2).complains(
        "database_url and database_url_file are both set by flags and environment: use one",
    );
    let home = home.with("KINDLER_DATABASE_URL_FILE", "");
    home.write("kindler.toml", "database_url_file = \"none\"");
    assert_eq!(database_user(&home, &[]).await, "own");
    // The login of the page may come from a file as well.
    let home = home.with("KINDLER_API_DATABASE_URL_FILE", "of-the-page");
    home.run(&["serve"])
        .await
        .ends(2)
        .complains("the database URL cannot be read from of-the-page");
    home.write("of-the-page", "mysql://hunter2");
    let said = home.run(&["serve", "--api-only"]).await.ends(2);
    assert!(
        said.err.contains("database URL") && !said.err.contains("hunter2"),
        "{said:#?}"
    );
}

#[tokio::test]
async fn the_state_folder_follows_the_same_order() {
    let home = Home::new()
        .with("KINDLER_STATE_DIR", "")
        .with("XDG_STATE_HOME", "/nowhere");
    let default = if rustix::process::geteuid().is_root() {
        "/var/lib/kindler/logs/x.log"
    } else {
        "/nowhere/kindler/logs/x.log"
    };
    home.run(&["logs", "x"]).await.ends(1).complains(default);
    home.write("kindler.toml", "state_dir = \"/of-file\"");
    home.run(&["logs", "x"])
        .await
        .complains("/of-file/logs/x.log");
    let home = home.with("KINDLER_STATE_DIR", "/of-env");
    home.run(&["logs", "x"])
        .await
        .complains("/of-env/logs/x.log");
    home.run(&["logs", "x", "--state-dir=/of-flag"])
        .await
        .complains("/of-flag/logs/x.log");
}

#[tokio::test]
async fn help_shows_what_would_be_used() {
    let home = Home::new();
    let help = home.run(&["serve", "--help"]).await.ends(0).out;
    assert!(
        help.contains("[default: 30s]") && help.contains("[default: script]"),
        "{help}"
    );
    let dev = home.run(&["dev", "--help"]).await.ends(0).out;
    assert!(
        dev.contains("[default: 15s]") && dev.contains("[default: sandbox]"),
        "{dev}"
    );
    home.write(
        "kindler.toml",
        "resync_interval = \"7s\"\ndriver = \"script\"\n",
    );
    for command in ["serve", "dev", "once"] {
        let help = home.run(&[command, "--help"]).await.ends(0).out;
        assert!(
            help.contains("[default: 7s]") && help.contains("[default: script]"),
            "{help}"
        );
    }
}

#[tokio::test]
async fn the_file_is_found_in_its_places() {
    let home = Home::new();
    let told = |user: &str| format!("database_url = {:?}", nowhere(user));
    home.write(".config/kindler/kindler.toml", &told("home"));
    assert_eq!(database_user(&home, &[]).await, "home");
    home.write("xdg/kindler/kindler.toml", &told("xdg"));
    let home_path = home.path().display().to_string();
    let home = home.with("XDG_CONFIG_HOME", format!("{home_path}/xdg"));
    assert_eq!(database_user(&home, &[]).await, "xdg");
    home.write("kindler.toml", &told("here"));
    assert_eq!(database_user(&home, &[]).await, "here");
    home.write("env.toml", &told("env"));
    let home = home.with("KINDLER_CONFIG", "env.toml");
    assert_eq!(database_user(&home, &[]).await, "env");
    home.write("flag.toml", &told("flag"));
    assert_eq!(
        database_user(&home, &["--config", "flag.toml"]).await,
        "flag"
    );
    home.run(&["list", "--config=none.toml"])
        .await
        .ends(2)
        .complains("none.toml does not exist");
}

#[tokio::test]
async fn mistakes_in_file_and_environment_name_their_place_and_the_limit() {
    for (text, told) in [
        (
            "resync_intervall = \"1s\"",
            "kindler.toml: key \"resync_intervall\" is not known: did you mean resync_interval?",
        ),
        (
            "concurrency = 0",
            "kindler.toml: concurrency: concurrency 0 is out of range: use 1 to 256",
        ),
        ("listen = ", "kindler.toml line 1 is not valid TOML"),
    ] {
        let home = Home::new();
        home.write("kindler.toml", text);
        let said = home.run(&["serve"]).await.ends(2).complains(told);
        assert!(said.out.is_empty());
        // Help is what one needs then.
        home.run(&["--help"]).await.ends(0);
        home.run(&["serve", "--help"]).await.ends(0);
        home.run(&["completions", "bash"]).await.ends(0);
    }
    for (name, value, told) in [
        (
            "KINDLER_RESYNC_INTERVALL",
            "1s",
            "KINDLER_RESYNC_INTERVALL is not known: did you mean KINDLER_RESYNC_INTERVAL?",
        ),
        (
            "KINDLER_LEASE_TTL",
            "1s",
            "KINDLER_LEASE_TTL: lease_ttl 1s is out of range: use 2s to 10m",
        ),
        (
            "KINDLER_HEALTH_INTERVAL",
            "300",
            "KINDLER_HEALTH_INTERVAL: health_interval \"300\" is not a duration",
        ),
        (
            "KINDLER_DRIVER",
            "magic",
            "KINDLER_DRIVER: driver \"magic\" is not known: use script or sandbox",
        ),
        (
            "KINDLER_LISTEN",
            "8080",
            "KINDLER_LISTEN: listen \"8080\" is not an address",
        ),
        (
            "KINDLER_PASS_ENV",
            "A B",
            "KINDLER_PASS_ENV: pass_env \"A B\" is not the name of a variable",
        ),
        (
            "KINDLER_ALLOWED_HOSTS",
            "kindler.example.org, https://ops.example.org",
            "KINDLER_ALLOWED_HOSTS: allowed_hosts \" https://ops.example.org\" is not a host",
        ),
        (
            "KINDLER_ALLOWED_HOSTS",
            "*.example.org",
            "KINDLER_ALLOWED_HOSTS: allowed_hosts \"*.example.org\" is not a host",
        ),
        (
            "KINDLER_ALLOWED_HOSTS",
            "kindler.example.org,,ops",
            "KINDLER_ALLOWED_HOSTS: allowed_hosts \"\" is not a host",
        ),
        (
            "KINDLER_BASE_DOMAIN",
            "http://x y",
            "KINDLER_BASE_DOMAIN: base_domain \"http://x y\" is not a domain",
        ),
        (
            "KINDLER_SANDBOX_FAIL",
            "ok,Not_Ok",
            "KINDLER_SANDBOX_FAIL: name \"Not_Ok\" is not valid",
        ),
    ] {
        let home = Home::new().with(name, value);
        home.run(&["serve"])
            .await
            .ends(2)
            .complains(&format!("environment variable {told}"));
    }
    let home = Home::new().with("DATABASE_URL", nowhere("x"));
    home.run(&["serve", "--backoff-initial", "10m"])
        .await
        .ends(2)
        .complains("backoff_initial 10m is more than backoff_max 5m");
    home.run(&["serve", "--concurrency", "257"])
        .await
        .ends(2)
        .complains("concurrency 257 is out of range: use 1 to 256");
}

#[tokio::test]
async fn variables_of_the_old_system_and_of_commands_are_no_mistakes() {
    let home = Home::new()
        .with("KINDLER_NS", "devops")
        .with("KINDLER_NAME", "dev")
        .with("KINDLER_ACTION", "create")
        .with(kindler::command::RUN_ID, "1");
    home.run(&["list"])
        .await
        .ends(2)
        .complains("no database is set");
}

#[tokio::test]
async fn a_daemon_needs_a_database_that_was_set_for_it() {
    let home = Home::new();
    home.write("state/database-url", &nowhere("dev"));
    for command in ["serve", "once"] {
        home.run(&[command])
            .await
            .ends(2)
            .complains("no database is set");
    }
    let home = home.with("DATABASE_URL", "mysql://x");
    for command in ["serve", "once", "dev", "list"] {
        home.run(&[command]).await.ends(2).complains("database URL");
    }
}

/// The table of the README is printed by `kindler settings-table`.
#[tokio::test]
async fn the_readme_lists_the_settings_as_they_are() {
    let table = Home::new().run(&["settings-table"]).await.ends(0).out;
    assert_eq!(table, kindler::config::settings_table());
    assert!(
        table.contains("| `resync_interval` | `KINDLER_RESYNC_INTERVAL` | `30s` |"),
        "{table}"
    );
    let Ok(readme) = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")) else {
        return;
    };
    let Some((_, after)) = readme.split_once("<!-- settings -->") else {
        return;
    };
    let (told, _) = after
        .split_once("<!-- /settings -->")
        .expect("the table ends");
    assert_eq!(
        told.trim(),
        table.trim(),
        "renew it with `kindler settings-table`"
    );
}

#[tokio::test]
async fn a_selector_that_cannot_be_ends_the_start_with_one_line() {
    let home = Home::new().with("DATABASE_URL", nowhere("x"));
    let serve = async |home: Home, told: &str| {
        let said = home.run(&["serve"]).await.ends(2).complains(told);
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
    };
    let too_long = "a".repeat(1001);
    for (selector, told) in [
        (
            "host in a",
            "selector: \"host in a\" is not understood: use KEY=VALUE",
        ),
        (",", "selector \",\" names no label: use KEY=VALUE"),
        (
            &too_long,
            "selector is 1001 characters long: use at most 1000",
        ),
    ] {
        let by_env = Home::new()
            .with("DATABASE_URL", nowhere("x"))
            .with("KINDLER_SELECTOR", selector);
        serve(by_env, &format!("KINDLER_SELECTOR: {told}")).await;
    }
    home.write("kindler.toml", "selector = \"a b\"");
    serve(home, "selector: \"a b\" is not understood: use KEY=VALUE").await;
}
