use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::thread;

use super::*;

fn private(port: u16) -> String {
    format!(
        "clusters:\n- cluster:\n    certificate-authority-data: Q0E=\n    server: \
         https://127.0.0.1:{port}\n  name: any\nusers:\n- name: any\n  user:\n    \
         client-certificate-data: Q0VSVA==\n    client-key-data: S0VZ\n"
    )
}

fn named(name: &str) -> (Provider, ClusterName) {
    (Provider::K3d, ClusterName::parse(name).unwrap())
}

fn merge(files: &UserKubeconfig, name: &str, port: u16) -> Result<(String, PathBuf), MergeError> {
    let (provider, name) = named(name);
    files.merge(&private(port), (provider, &name), &CancellationToken::new())
}

fn remove(files: &UserKubeconfig, name: &str, port: u16) {
    let names = names(Provider::K3d, &named(name).1);
    files
        .remove(Some(&private(port)), &names, &CancellationToken::new())
        .unwrap();
}

fn list(files: &[&Path]) -> UserKubeconfig {
    UserKubeconfig::of(Some(env::join_paths(files).unwrap()), None).unwrap()
}

fn has(path: &Path, part: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|content| content.contains(part))
}

#[test]
fn the_files_are_those_of_kubectl() {
    let files = |list: &str, home: &str| {
        UserKubeconfig::of(Some(list.into()), Some(home.into())).map(|files| files.files)
    };
    assert_eq!(
        files("", "/home/a").unwrap(),
        [Path::new("/home/a/.kube/config")]
    );
    let several = files("/b::/a:/b", "/home/a").unwrap();
    assert_eq!(several, [Path::new("/b"), Path::new("/a")]);
    assert!(matches!(files("", ""), Err(MergeError::NoFile)));
}

#[test]
fn of_a_list_the_first_file_that_exists_gets_a_new_entry() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (a, b) = (path("a"), path("sub/b"));
    let files = list(&[&a, &b]);
    assert_eq!(
        merge(&files, "dev", 6443).unwrap(),
        ("k3d-dev".to_owned(), b.clone())
    );
    fs::write(&a, "").unwrap();
    // An entry is changed where it is.
    assert_eq!(merge(&files, "dev", 7000).unwrap().1, b);
    assert!(has(&b, "127.0.0.1:7000"));
    assert_eq!(merge(&files, "uat", 6444).unwrap().1, a);
    assert!(has(&b, "current-context: k3d-dev") && !has(&a, "current-context"));
    remove(&files, "dev", 7000);
    assert!(!has(&b, "k3d-dev") && has(&a, "k3d-uat"));
    assert_eq!(
        fs::metadata(&b).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(!lock::lock_path(&a).exists() && !lock::lock_path(&b).exists());
}

#[test]
fn a_merge_keeps_links_and_modes_and_writes_only_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("config"));
    fs::write(&real, "clusters: null\n").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&real, &link).unwrap();
    let files = list(&[&link]);
    merge(&files, "dev", 6443).unwrap();
    assert!(link.is_symlink() && has(&real, "k3d-dev"));
    let before = fs::metadata(&real).unwrap();
    assert_eq!(before.permissions().mode() & 0o777, 0o640);
    merge(&files, "dev", 6443).unwrap();
    assert_eq!(fs::metadata(&real).unwrap().ino(), before.ino());
}

#[test]
fn a_context_that_leads_elsewhere_is_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let files = list(&[&path]);
    let names = names(Provider::K3d, &named("dev").1);
    let difference = |port| files.difference(&private(port), &names).unwrap();
    assert!(difference(6443).unwrap().contains("has no cluster k3d-dev"));
    merge(&files, "dev", 6443).unwrap();
    assert_eq!(difference(6443), None);
    assert!(
        difference(7000)
            .unwrap()
            .contains("leads k3d-dev to https://127.0.0.1:6443")
    );
    let own = fs::read_to_string(&path)
        .unwrap()
        .replace("user: admin@k3d-dev", "user: me");
    fs::write(&path, own).unwrap();
    assert!(
        difference(6443)
            .unwrap()
            .contains("leads the context k3d-dev to another cluster")
    );
}

#[test]
fn parallel_merges_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    fs::write(&path, "users:\n- name: mine\n  user: {}\n").unwrap();
    let merges = (0..8).map(|at| {
        let path = path.clone();
        thread::spawn(move || merge(&list(&[&path]), &format!("c{at}"), 6000 + at).unwrap())
    });
    for merge in merges.collect::<Vec<_>>() {
        merge.join().unwrap();
    }
    for at in 0..8 {
        assert!(has(&path, &format!("name: admin@k3d-c{at}")), "c{at}");
    }
    assert!(has(&path, "name: mine"));
}

#[test]
fn a_lock_that_kubectl_left_is_named_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let lock = lock::lock_path(&path);
    fs::write(&lock, "").unwrap();
    let error = merge(&list(&[&path]), "dev", 6443).unwrap_err().to_string();
    let left = format!("{} exists since", lock.display());
    assert!(
        error.contains(&left) && error.contains("remove it"),
        "{error}"
    );
    assert!(lock.exists() && !path.exists());
}

#[test]
fn a_lock_that_kindler_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    fs::write(lock::lock_path(&path), "kindler\n").unwrap();
    merge(&list(&[&path]), "dev", 6443).unwrap();
    assert!(has(&path, "k3d-dev") && !lock::lock_path(&path).exists());
}

#[test]
fn a_file_that_cannot_be_changed_stays_with_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let (file, path) = (folder.path().join("file"), folder.path().join("config"));
    fs::write(&file, "").unwrap();
    let below = merge(&list(&[&file.join("config")]), "dev", 6443).unwrap_err();
    assert!(
        crate::cause::chain(&below).contains("Not a directory"),
        "{below}"
    );
    fs::write(&path, "a: [S0VZ\n").unwrap();
    let broken = merge(&list(&[&path]), "dev", 6443).unwrap_err().to_string();
    assert!(
        broken.contains("it is not YAML") && !broken.contains("S0VZ"),
        "{broken}"
    );
    assert!(has(&path, "a: [S0VZ"));
}
