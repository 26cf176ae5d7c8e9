//! The install script: installing twice, uninstalling and purging.

use std::fs;

use super::{files, install, read, repository, succeeds, tool};

#[test]
fn install_is_idempotent_and_purge_removes_everything() {
    let root = tempfile::tempdir().unwrap();
    let first = succeeds(&mut install(root.path(), "/usr/local", "install"));
    for output in ["/usr/local/bin/kindler", "kindler.service", "kindler.toml"] {
        assert!(first.contains(output), "{first}");
    }
    let installed = files(root.path());
    for file in [
        "usr/local/bin/kindler",
        "usr/local/lib/systemd/system/kindler.service",
        "usr/local/lib/systemd/system/kindler-once.timer",
        "usr/local/lib/sysusers.d/kindler.conf",
        "usr/local/share/man/man1/kindler-create.1.gz",
        "usr/local/share/zsh/site-functions/_kindler",
        "etc/kindler/kindler.toml",
    ] {
        assert!(
            installed.iter().any(|f| f == file),
            "{file}: {installed:#?}"
        );
    }
    // The links of installed pages lead to installed files.
    let documents = root.path().join("usr/local/share/doc/kindler");
    let pages = files(&documents).into_iter().filter(|file| {
        file.starts_with("docs/runbooks/")
            || ["docs/OPERATIONS.md", "docs/SCALE.md", "docs/METRICS.md"].contains(&file.as_str())
    });
    let mut links = 0;
    for page in pages {
        let page = documents.join(page);
        for link in read(&page).split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap();
            let there = page.parent().unwrap().join(target);
            assert!(there.exists(), "{}: {target}", page.display());
            links += 1;
        }
    }
    assert!(links > 20, "{links}");
    let unit = root
        .path()
        .join("usr/local/lib/systemd/system/kindler.service");
    assert!(read(unit).contains("\nExecStart=/usr/local/bin/kindler serve\n"));

    // A file that a person changed is kept, and a changed file of the package is
    // replaced.
    let settings = root.path().join("etc/kindler/kindler.toml");
    fs::write(&settings, "concurrency = 9\n").unwrap();
    fs::write(root.path().join("usr/local/bin/kindler"), "old").unwrap();
    let second = succeeds(&mut install(root.path(), "/usr/local", "install"));
    assert_eq!(read(&settings), "concurrency = 9\n");
    let changed: Vec<_> = second.lines().collect();
    assert_eq!(changed.len(), 2, "{second}");
    assert_eq!(changed[0], "install: /usr/local/bin/kindler");
    assert!(changed[1].contains("leaving /etc/kindler/kindler.toml"));
    assert_eq!(files(root.path()), installed);

    succeeds(&mut install(root.path(), "/usr/local", "uninstall"));
    assert_eq!(files(root.path()), ["etc/kindler/kindler.toml"]);
    succeeds(&mut install(root.path(), "/usr/local", "purge"));
    assert!(files(root.path()).is_empty());
}

#[test]
fn the_example_settings_file_is_valid_and_sets_nothing() {
    let example = kindler::config::settings_example();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kindler.toml");
    fs::write(&file, example).unwrap();
    let output = std::process::Command::new(crate::kit::KINDLER)
        .args(["list", "--config"])
        .arg(&file)
        .env_clear()
        .output()
        .unwrap();
    let output = super::printed(&output);
    assert!(output.contains("no database is set"), "{output}");
}

#[test]
fn shellcheck_accepts_the_scripts() {
    let Some(mut shellcheck) = tool("shellcheck") else {
        return;
    };
    let scripts = [
        "install.sh",
        "setup.sh",
        "debian/build.sh",
        "debian/postinst",
    ];
    let scripts = scripts.iter().chain(&["debian/prerm", "debian/postrm"]);
    succeeds(shellcheck.args(scripts.map(|name| repository("deploy").join(name))));
}
