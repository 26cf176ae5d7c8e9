//! No command prints a password, whatever goes wrong.

use super::rig::Home;

const CANARY: &str = "hunter2canary";

async fn assert_hidden(home: &Home, args: &[&str]) {
    let said = home.run(args).await;
    let told = format!("{}{}", said.out, said.err);
    assert!(!told.contains("hunter2"), "{args:?}: {told}");
    assert!(!told.is_empty(), "{args:?}");
}

const COMMANDS: [&[&str]; 14] = [
    &["list"],
    &["get", "x"],
    &["create", "x"],
    &["delete", "x", "--wait"],
    &["events", "x", "-o", "json"],
    &["logs", "x"],
    &["status"],
    &["status", "-o", "json"],
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
async fn a_password_in_a_file_or_in_a_wrong_place_is_never_printed() {
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
