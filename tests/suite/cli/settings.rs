//! The sources of settings, and the errors of invalid ones.

use std::fs;

use super::rig::Home;

/// An unreachable URL whose user names its source.
fn nowhere(user: &str) -> String {
    format!("postgresql://{user}@127.0.0.1:1/x")
}

async fn database_user(home: &Home, args: &[&str]) -> String {
    let result = home.run(&[&["list"], args].concat()).await.exits(2);
    let after = result
        .err
        .split_once("error: database ")
        .expect("names the database")
        .1;
    after.split_once('@').expect("names the user").0.to_owned()
}

#[tokio::test]
async fn flag_overrides_environment_overrides_file() {
    let home = Home::new();
    home.run(&["list"])
        .await
        .exits(2)
        .stderr_has("error: no database is set\nhint: set KINDLER_DATABASE_URL");
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
async fn white_space_around_flags_is_trimmed() {
    let home = Home::new();
    let file = home.write(
        "other.toml",
        &format!("database_url = {:?}", format!(" {}\n", nowhere("file"))),
    );
    let path = format!("{} ", file.display());
    let in_one = format!("--config= {path}");
    let url = format!(" {}\n", nowhere("flag"));
    for (args, user) in [
        (["--database-url", &url, "-o", " json "].as_slice(), "flag"),
        (&["--config", &path], "file"),
        (&[&in_one, "--output= wide"], "file"),
    ] {
        assert_eq!(database_user(&home, args).await, user, "{args:?}");
    }
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
        .exits(2)
        .stderr_has("database_url and database_url_file are both set by the settings file");
    let home = home.with("KINDLER_DATABASE_URL_FILE", file.display().to_string());
    assert_eq!(database_user(&home, &[]).await, "filed");
    home.write("url", "postgresql://u:hunter2@h/d hunter2");
    let result = home.run(&["list"]).await.exits(2);
    assert!(
        result.err.contains("contains a space or a second line") && !result.err.contains("hunter2"),
        "{result:#?}"
    );
    home.run(&["list", "--database-url-file", "none"])
        .await
        .exits(2)
        .stderr_has("the database URL cannot be read from none: No such file");
    // A URL makes a file of a lower source unnecessary; both in one source are an error.
    let home = home.with("KINDLER_DATABASE_URL", nowhere("own"));
    home.run(&["list"]).await.exits(2).stderr_has(
        "database_url and database_url_file are both set by flags and environment: use one",
    );
    let home = home.with("KINDLER_DATABASE_URL_FILE", "");
    home.write("kindler.toml", "database_url_file = \"none\"");
    assert_eq!(database_user(&home, &[]).await, "own");
    // The database login of the page may come from a file, too.
    let home = home.with("KINDLER_API_DATABASE_URL_FILE", "of-the-page");
    home.run(&["serve"])
        .await
        .exits(2)
        .stderr_has("the database URL cannot be read from of-the-page");
    home.write("of-the-page", "mysql://hunter2");
    let result = home.run(&["serve", "--api-only"]).await.exits(2);
    assert!(
        result.err.contains("database URL") && !result.err.contains("hunter2"),
        "{result:#?}"
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
    home.run(&["logs", "x"]).await.exits(1).stderr_has(default);
    home.write("kindler.toml", "state_dir = \"/of-file\"");
    home.run(&["logs", "x"])
        .await
        .stderr_has("/of-file/logs/x.log");
    let home = home.with("KINDLER_STATE_DIR", "/of-env");
    home.run(&["logs", "x"])
        .await
        .stderr_has("/of-env/logs/x.log");
    home.run(&["logs", "x", "--state-dir=/of-flag"])
        .await
        .stderr_has("/of-flag/logs/x.log");
}

#[tokio::test]
async fn help_shows_the_effective_defaults() {
    let home = Home::new();
    let help = home.run(&["serve", "--help"]).await.exits(0).out;
    assert!(
        help.contains("[default: 30s]") && help.contains("[default: script]"),
        "{help}"
    );
    let dev = home.run(&["dev", "--help"]).await.exits(0).out;
    assert!(
        dev.contains("[default: 15s]") && dev.contains("[default: auto]"),
        "{dev}"
    );
    home.write(
        "kindler.toml",
        "resync_interval = \"7s\"\ndriver = \"script\"\n",
    );
    for command in ["serve", "dev", "once"] {
        let help = home.run(&[command, "--help"]).await.exits(0).out;
        assert!(
            help.contains("[default: 7s]") && help.contains("[default: script]"),
            "{help}"
        );
    }
}

#[tokio::test]
async fn the_settings_file_is_found_in_its_places() {
    let home = Home::new();
    let settings = |user: &str| format!("database_url = {:?}", nowhere(user));
    home.write(".config/kindler/kindler.toml", &settings("home"));
    assert_eq!(database_user(&home, &[]).await, "home");
    home.write("xdg/kindler/kindler.toml", &settings("xdg"));
    let home_path = home.path().display().to_string();
    let home = home.with("XDG_CONFIG_HOME", format!("{home_path}/xdg"));
    assert_eq!(database_user(&home, &[]).await, "xdg");
    home.write("kindler.toml", &settings("here"));
    assert_eq!(database_user(&home, &[]).await, "here");
    home.write("env.toml", &settings("env"));
    let home = home.with("KINDLER_CONFIG", "env.toml");
    assert_eq!(database_user(&home, &[]).await, "env");
    home.write("flag.toml", &settings("flag"));
    assert_eq!(
        database_user(&home, &["--config", "flag.toml"]).await,
        "flag"
    );
    home.run(&["list", "--config=none.toml"])
        .await
        .exits(2)
        .stderr_has("none.toml does not exist");
}

#[tokio::test]
async fn invalid_settings_name_their_source_and_limit() {
    for (text, message) in [
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
        let result = home.run(&["serve"]).await.exits(2).stderr_has(message);
        assert!(result.out.is_empty());
        // Help works with a broken settings file.
        home.run(&["--help"]).await.exits(0);
        home.run(&["serve", "--help"]).await.exits(0);
        home.run(&["completions", "bash"]).await.exits(0);
    }
    for (name, value, message) in [
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
            "KINDLER_DRIVER: driver \"magic\" is not known: use script, native, sandbox or auto",
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
            .exits(2)
            .stderr_has(&format!("environment variable {message}"));
    }
    let home = Home::new().with("DATABASE_URL", nowhere("x"));
    home.run(&["serve", "--backoff-initial", "10m"])
        .await
        .exits(2)
        .stderr_has("backoff_initial 10m is more than backoff_max 5m");
    home.run(&["serve", "--concurrency", "257"])
        .await
        .exits(2)
        .stderr_has("concurrency 257 is out of range: use 1 to 256");
}

#[tokio::test]
async fn variables_of_the_old_system_are_accepted() {
    let home = Home::new()
        .with("KINDLER_NS", "devops")
        .with("KINDLER_NAME", "dev")
        .with("KINDLER_ACTION", "create")
        .with(kindler::command::RUN_ID, "1");
    home.run(&["list"])
        .await
        .exits(2)
        .stderr_has("no database is set");
}

#[tokio::test]
async fn a_daemon_needs_an_explicit_database() {
    let home = Home::new();
    home.write("state/database-url", &nowhere("dev"));
    for command in ["serve", "once"] {
        home.run(&[command])
            .await
            .exits(2)
            .stderr_has("no database is set");
    }
    let home = home.with("DATABASE_URL", "mysql://x");
    for command in ["serve", "once", "dev", "list"] {
        home.run(&[command])
            .await
            .exits(2)
            .stderr_has("database URL");
    }
}

/// The table of the README is printed by `kindler settings-table`.
#[tokio::test]
async fn the_readme_lists_the_settings() {
    let table = Home::new().run(&["settings-table"]).await.exits(0).out;
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
    let (listed, _) = after
        .split_once("<!-- /settings -->")
        .expect("the table ends");
    assert_eq!(
        listed.trim(),
        table.trim(),
        "renew it with `kindler settings-table`"
    );
}

#[tokio::test]
async fn an_invalid_selector_is_one_line_of_error() {
    let home = Home::new().with("DATABASE_URL", nowhere("x"));
    let serve = async |home: Home, message: &str| {
        let result = home.run(&["serve"]).await.exits(2).stderr_has(message);
        assert_eq!(result.err.lines().count(), 1, "{result:?}");
    };
    let too_long = "a".repeat(1001);
    for (selector, message) in [
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
        serve(by_env, &format!("KINDLER_SELECTOR: {message}")).await;
    }
    home.write("kindler.toml", "selector = \"a b\"");
    serve(home, "selector: \"a b\" is not understood: use KEY=VALUE").await;
}

#[tokio::test]
async fn white_space_around_a_value_is_ignored() {
    let home = Home::new()
        .with("KINDLER_DATABASE_URL", format!(" {}\n", nowhere("own")))
        .with("KINDLER_DRIVER", " sandbox ")
        .with("KINDLER_LEASE_TTL", "\t15s")
        .with("KINDLER_LISTEN", "127.0.0.1:0 ");
    assert_eq!(database_user(&home, &[]).await, "own");
    let home = home.with("KINDLER_DATABASE_URL", " ");
    let file = format!(
        "database_url = ' {} '\nlog_format = ' text'",
        nowhere("file")
    );
    home.write("kindler.toml", &file);
    assert_eq!(database_user(&home, &[]).await, "file");
}

#[tokio::test]
async fn a_log_level_that_does_not_exist_is_rejected() {
    for level in ["warning", "inof"] {
        Home::new()
            .with("KINDLER_LOG", level)
            .run(&["serve"])
            .await
            .exits(2)
            .stderr_has(&format!("KINDLER_LOG: log \"{level}\" is not a level"));
    }
}

/// Their messages alone: none of Kindler would be logged.
#[tokio::test]
async fn a_log_filter_without_kindler_is_rejected() {
    for filter in ["kindlr=debug", "hyper=info,tokio_postgres=debug"] {
        Home::new()
            .with("KINDLER_LOG", filter)
            .run(&["serve"])
            .await
            .exits(2)
            .stderr_has(&format!(
                "KINDLER_LOG: log \"{filter}\" logs nothing of Kindler"
            ))
            .stderr_has(&format!("use info,{filter}"));
    }
}
