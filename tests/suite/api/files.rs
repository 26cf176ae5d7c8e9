//! Logs and kubeconfigs, read on this host.

use std::os::unix::fs::PermissionsExt;

use super::{SOON, quiet_site, site, site_with};
use crate::kit::{eventually, kindler_output};

#[tokio::test]
async fn the_log_can_be_read_followed_and_downloaded() {
    let site = site().await;
    site.host.control(
        "dev.create",
        "for n in 1 2 3 4 5 6 7 8 9; do echo \"line $n\"; done",
    );
    site.declare("dev").await;
    site.until("dev", "actual_state", "running").await;
    let path = "/api/clusters/dev/log";
    let whole = site.http.get(path).await.is(200);
    assert_eq!(whole.header("content-type"), "text/plain; charset=utf-8");
    assert!(
        whole.text.contains("line 1\n") && whole.text.contains("line 9\n"),
        "{}",
        whole.text
    );
    let tail = site.http.get(&format!("{path}?lines=2")).await.is(200);
    assert_eq!(tail.text.lines().count(), 2, "{}", tail.text);
    let file = site
        .http
        .get(&format!("{path}?download=true"))
        .await
        .is(200);
    assert_eq!(
        file.header("content-disposition"),
        "attachment; filename=\"dev.log\""
    );
    for bad in ["lines=-1", "lines=x", "lines=10001", "follow=maybe"] {
        site.http.get(&format!("{path}?{bad}")).await.is(422);
    }
    let mut events = site
        .http
        .events(&format!("{path}?follow=true&lines=1"), None)
        .await;
    events.until("line").await;
    site.host.control("dev.create", "echo 'a later line'");
    site.http
        .patch(
            "/api/clusters/dev",
            serde_json::json!({ "http_port": 18333 }),
        )
        .await
        .is(200);
    while !events.until("line").await.data.contains("a later line") {}
    let missing = quiet_site().await;
    missing.declare("dev").await;
    let answer = missing.http.get(path).await.is(404);
    assert!(answer.detail().contains("host"), "{}", answer.text);
}

#[tokio::test]
async fn an_unfinished_line_and_a_progress_bar_are_shown() {
    let site = site().await;
    site.host.control(
        "dev.create",
        r#"printf 'pull 10%%\r'; printf 'pull 20%%'
        while [ ! -e "$here/go" ]; do sleep 0.05; done
        printf '\rpull 90%%\n'
        while [ ! -e "$here/on" ]; do sleep 0.05; done
        echo 'in between' >&2; printf 'without an end'"#,
    );
    site.declare("dev").await;
    let path = "/api/clusters/dev/log";
    let log = async || site.http.get(path).await.text;
    eventually(SOON, "the unfinished line", || async {
        log().await.ends_with("\npull 20%\n")
    })
    .await;
    let task = site.http.get("/api/tasks/reconcile-dev").await.json();
    assert_eq!(task["logs"].as_array().unwrap().last().unwrap(), "pull 20%");
    let (shown, _) = kindler_output(&site.database.url(), &site.host, &["logs", "dev"]);
    assert!(shown.ends_with("\npull 20%\n"), "{shown}");
    let follow = format!("{path}?follow=true&lines=1");
    let mut events = site.http.events(&follow, None).await;
    assert_eq!(events.until("partial").await.data, "pull 20%");
    std::fs::write(site.host.path().join("go"), "").unwrap();
    assert_eq!(events.until("line").await.data, "pull 90%");
    std::fs::write(site.host.path().join("on"), "").unwrap();
    site.until("dev", "actual_state", "running").await;
    let log = log().await;
    for line in ["pull 90%", "in between", "without an end"] {
        assert_eq!(
            log.lines().filter(|one| *one == line).count(),
            1,
            "{line} in {log}"
        );
    }
    assert!(!log.contains("pull 20%"), "{log}");
}

#[tokio::test]
async fn a_download_is_everything_that_is_kept() {
    let site = site().await;
    // More than a rotation, in lines longer than those that are shown.
    site.host.control(
        "dev.create",
        "long=$(printf '%02000d' 7); n=0; while [ $n -lt 3000 ]; do echo \"$n $long\"; n=$((n+1)); done",
    );
    site.declare("dev").await;
    site.until("dev", "actual_state", "running").await;
    let path = "/api/clusters/dev/log?download=true";
    let kept = site.http.get(path).await.is(200).text;
    let rotated = site.host.state_dir().join("logs/dev.log.1");
    assert!(std::fs::metadata(rotated).unwrap().len() > 3 << 20);
    assert!(kept.len() > 5 << 20, "{}", kept.len());
    for n in [0, 1, 1500, 2999] {
        let line = format!("{n} {}7", "0".repeat(1999));
        assert!(kept.lines().any(|one| one == line), "line {n}");
    }
}

#[tokio::test]
async fn a_kubeconfig_comes_from_the_provider() {
    // A fake k3d with one cluster, in the daemon's PATH.
    let tools = tempfile::tempdir().unwrap();
    let k3d = tools.path().join("k3d");
    std::fs::write(&k3d, "#!/bin/sh\n[ \"$*\" = 'kubeconfig get dev' ] && { echo 'apiVersion: v1'; exit 0; }\necho 'no such cluster' >&2; exit 1\n").unwrap();
    std::fs::set_permissions(&k3d, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        tools.path().display(),
        std::env::var("PATH").unwrap()
    );
    let site = site_with(|daemon| daemon.set("PATH", path)).await;
    for name in ["dev", "other"] {
        site.declare(name).await;
        site.until(name, "actual_state", "running").await;
    }
    let config = site.http.get("/api/clusters/dev/kubeconfig").await.is(200);
    assert_eq!(config.text, "apiVersion: v1\n");
    assert_eq!(config.header("content-type"), "application/yaml");
    assert_eq!(
        config.header("content-disposition"),
        "attachment; filename=\"dev.yaml\""
    );
    assert_eq!(config.header("cache-control"), "no-store");
    let none = site
        .http
        .get("/api/clusters/other/kubeconfig")
        .await
        .is(404);
    assert!(none.detail().contains("no such cluster"), "{}", none.text);
    site.http
        .get("/api/clusters/nobody/kubeconfig")
        .await
        .is(404);
}

#[tokio::test]
async fn a_missing_kubeconfig_has_a_reason() {
    let only = quiet_site().await;
    only.declare("dev").await;
    let answer = only.http.get("/api/clusters/dev/kubeconfig").await.is(404);
    assert!(
        answer.detail().contains("host of the daemon"),
        "{}",
        answer.text
    );
    let sandbox = site_with(|daemon| daemon.set("KINDLER_DRIVER", "sandbox")).await;
    sandbox.declare("dev").await;
    let answer = sandbox
        .http
        .get("/api/clusters/dev/kubeconfig")
        .await
        .is(404);
    assert!(answer.detail().contains("sandbox"), "{}", answer.text);
}
