//! No command prints a password, whatever goes wrong.

use super::rig::Home;

const CANARY: &str = "hunter2canary";

async fn assert_hidden(home: &Home, args: &[&str]) {
    let result = home.run(args).await;
    let output = format!("{}{}", result.out, result.err);
    assert!(!output.contains("hunter2"), "{args:?}: {output}");
    assert!(!output.is_empty(), "{args:?}");
}

const COMMANDS: [&[&str]; 16] = [
    &["list"],
    &["get", "x"],
    &["create", "x"],
    &["delete", "x", "--wait"],
    &["events", "x", "-o", "json"],
    &["logs", "x"],
    &["status"],
    &["status", "-o", "json"],
    &["doctor"],
    &["doctor", "-o", "json"],
    &["migrate"],
    &["serve", "--help"],
    &["dev", "--help"],
    &["--help"],
    &["list", "--no-such-flag"],
    &["settings-table"],
];

#[tokio::test]
async fn a_password_in_the_environment_is_never_printed() {
    for url in [
        format!("postgresql://u:{CANARY}@127.0.0.1:1/x"),
        format!("postgresql://u:{CANARY}@no-such-host.invalid/x"),
        format!("postgresql://u:{CANARY}@h:notaport/x"),
        format!("postgresql://u:a@{CANARY}@h/x"),
        format!("host=127.0.0.1 port=1 user=u password={CANARY}"),
        format!("host=127.0.0.1 port=x password={CANARY}"),
        CANARY.to_owned(),
    ] {
        for name in ["KINDLER_DATABASE_URL", "DATABASE_URL"] {
            let home = Home::new().with(name, url.clone());
            for args in COMMANDS {
                assert_hidden(&home, args).await;
            }
        }
    }
}

#[tokio::test]
async fn a_misplaced_password_is_never_printed() {
    let url = format!("postgresql://u:{CANARY}@127.0.0.1:1/x");
    for text in [
        format!("database_url = \"{url}\""),
        format!("database_url = \"{url}"),
        format!("database_url = {url}"),
        format!("database_url = [[\"{url}\"]]"),
        format!("listen = \"{url}\""),
        format!("pass_env = [\"{url}\"]"),
    ] {
        let home = Home::new();
        home.write("kindler.toml", &text);
        for args in [&["list"][..], &["serve", "--help"], &["status"]] {
            assert_hidden(&home, args).await;
        }
    }
    let home = Home::new();
    let glued = format!("--databse-url={url}");
    for args in [
        &["list", &url][..],
        &["get", &url],
        &["create", "x", "--provider", &url],
        &["list", &glued],
        &["list", "--database-url", &url],
        &[&url],
        &["--state-dir", "/x", "logs", &url],
    ] {
        assert_hidden(&home, args).await;
    }
}

/// Every local user can read the arguments of a running process, so a daemon
/// would expose the password as long as it runs.
#[tokio::test]
async fn a_password_on_the_command_line_is_rejected() {
    let home = Home::new();
    for url in [
        format!("postgresql://u:{CANARY}@127.0.0.1:1/x"),
        format!("postgresql://127.0.0.1:1/x?user=u&password={CANARY}"),
        format!("host=127.0.0.1 port=1 user=u password={CANARY}"),
    ] {
        for (command, flag) in [
            ("list", "--database-url"),
            ("serve", "--database-url"),
            ("serve", "--api-database-url"),
        ] {
            let result = home.run(&[command, flag, &url]).await.exits(2).stderr_has(&format!(
                "error: {flag} contains a password, which every user of this machine could read in the \
                 process list\nhint: set the URL in the environment"
            ));
            assert!(!result.err.contains(CANARY), "{result:#?}");
        }
    }
    // A URL without a password is accepted.
    home.run(&["list", "--database-url", "postgresql://u@127.0.0.1:1/x"])
        .await
        .exits(2)
        .stderr_has("Connection refused");
}
