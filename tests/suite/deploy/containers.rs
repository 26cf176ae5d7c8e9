//! The images and the compose file: every path, port, variable, command and secret
//! exists, and hadolint's rules are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use kindler::config::settings;
use serde_json::Value;

use super::yaml::{assert_follows, document, texts};
use super::{optional_tool, read, repository, succeeds};

/// The instructions of the Dockerfile, each with the name of its stage.
fn instructions() -> Vec<(String, String, String)> {
    let text = read(repository("deploy/docker/Dockerfile"));
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let mut stage = String::new();
    lines
        .join("\n")
        .replace("\\\n", " ")
        .lines()
        .filter_map(|line| {
            let (word, rest) = line.split_once(' ')?;
            let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
            if word == "FROM" {
                stage = rest.rsplit(' ').next().unwrap().to_owned();
            }
            Some((stage.clone(), word.to_owned(), rest))
        })
        .collect()
}

fn of_stage(stage: &str, word: &str) -> Vec<String> {
    instructions()
        .into_iter()
        .filter(|(of, instruction, _)| of == stage && instruction == word)
        .map(|(_, _, rest)| rest)
        .collect()
}

/// The variables that an image sets.
fn image_env(stage: &str) -> BTreeMap<String, String> {
    of_stage(stage, "ENV")
        .iter()
        .flat_map(|line| line.split(' '))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The programs in the image of the daemon besides kindler.
pub(super) fn daemon_programs() -> Vec<String> {
    let installs = of_stage("daemon", "RUN").join(" ");
    let (_, rest) = installs.split_once("--no-install-recommends ").unwrap();
    let (packages, _) = rest.split_once(" &&").unwrap();
    packages.split(' ').map(str::to_owned).collect()
}

fn compose() -> Value {
    let mut compose = document(&repository("deploy/docker/compose.yaml"));
    // The parser leaves merge keys to the caller.
    merge(&mut compose);
    compose
}

fn merge(value: &mut Value) {
    let Value::Object(map) = value else { return };
    if let Some(Value::Object(below)) = map.remove("<<") {
        for (key, value) in below {
            map.entry(key).or_insert(value);
        }
    }
    map.values_mut().for_each(merge);
}

fn services() -> BTreeMap<String, Value> {
    serde_json::from_value(compose()["services"].clone()).unwrap()
}

/// The services that run Kindler, each with the stage of its image.
fn kindler_services() -> Vec<(String, String, Value)> {
    services()
        .into_iter()
        .filter_map(|(name, service)| {
            let stage = service["build"]["target"].as_str()?.to_owned();
            Some((name, stage, service))
        })
        .collect()
}

#[test]
fn hadolint_accepts_the_dockerfile() {
    let Some(mut hadolint) = optional_tool(&["hadolint"]) else {
        return;
    };
    succeeds(hadolint.arg(repository("deploy/docker/Dockerfile")));
}

#[test]
fn images_are_pinned_unprivileged_and_complete() {
    let all = instructions();
    let stages: BTreeSet<_> = all.iter().map(|(stage, _, _)| stage.as_str()).collect();
    let defaults: BTreeMap<_, _> = all
        .iter()
        .filter(|(_, word, _)| word == "ARG")
        .filter_map(|(_, _, rest)| rest.split_once('='))
        .collect();
    for (_, word, rest) in &all {
        match word.as_str() {
            "FROM" => {
                let mut image = rest.split(' ').next().unwrap().to_owned();
                for (name, value) in &defaults {
                    image = image.replace(&format!("${{{name}}}"), value);
                }
                let pinned = image.split_once(':').is_some_and(|(_, tag)| {
                    tag.contains(|c: char| c.is_ascii_digit()) || tag == "bookworm-slim"
                });
                assert!(image == "scratch" || pinned, "{image} is not pinned");
                assert!(!image.contains('$'), "{image} has no default");
            }
            "COPY" => match rest.strip_prefix("--from=") {
                Some(rest) => {
                    let stage = rest.split(' ').next().unwrap();
                    assert!(stages.contains(stage), "no stage {stage}");
                }
                None => {
                    for source in rest.split(' ').rev().skip(1) {
                        assert!(repository(source).exists(), "{source}");
                    }
                }
            },
            "ADD" | "MAINTAINER" => panic!("{word}: use COPY and LABEL"),
            "RUN" if rest.contains("apt-get install") => {
                assert!(rest.contains("--no-install-recommends"), "{rest}");
                assert!(rest.contains("rm -rf /var/lib/apt/lists"), "{rest}");
            }
            "RUN" => assert!(!rest.contains("sudo ") && !rest.contains("curl "), "{rest}"),
            "ENTRYPOINT" | "CMD" => assert!(rest.starts_with('['), "{word} {rest}"),
            _ => {}
        }
    }
    for stage in ["api", "daemon"] {
        assert_eq!(of_stage(stage, "USER"), ["65532:65532"], "{stage}");
        let check = &of_stage(stage, "HEALTHCHECK")[0];
        assert!(
            check.contains(r#"["/usr/bin/kindler", "ready"]"#),
            "{check}"
        );
        let (_, arguments) = check.split_once("kindler\", ").unwrap();
        super::assert_is_a_command(&[arguments.trim_matches(['"', ']']).to_owned()]);
        let command: Vec<String> = serde_json::from_str(&of_stage(stage, "CMD")[0]).unwrap();
        super::assert_is_a_command(&command);
        let env = image_env(stage);
        assert_variables_exist(env.keys());
        let port = env["KINDLER_LISTEN"].rsplit(':').next().unwrap().to_owned();
        assert_eq!(of_stage(stage, "EXPOSE"), [port]);
        assert_eq!(
            of_stage(stage, "VOLUME"),
            [env["KINDLER_STATE_DIR"].clone()]
        );
    }
}

fn assert_variables_exist<'a>(names: impl Iterator<Item = &'a String>) {
    let known: BTreeSet<_> = settings().into_iter().map(|setting| setting.env).collect();
    for name in names.filter(|name| name.starts_with("KINDLER_")) {
        assert!(known.contains(name), "{name}");
    }
}

/// A build with a missing folder would fail only with a container engine.
#[test]
fn the_build_context_has_every_included_file() {
    let given: Vec<String> = of_stage("build", "COPY")
        .iter()
        .flat_map(|rest| {
            let words: Vec<_> = rest.split(' ').map(str::to_owned).collect();
            words[..words.len() - 1].to_vec()
        })
        .collect();
    let ignored = read(repository(".dockerignore"));
    for path in &given {
        assert!(
            ignored.lines().any(|line| line == format!("!{path}")),
            "{path}"
        );
    }
    let is_given = |path: &str| {
        given
            .iter()
            .any(|part| path.split('/').next() == Some(part))
    };
    let manifest = read(repository("Cargo.toml"));
    for line in manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = "))
    {
        assert!(is_given(line.trim_matches('"')), "{line}");
    }
    assert!(!repository("build.rs").exists() || is_given("build.rs"));
    let root = repository("").canonicalize().unwrap();
    let mut taken_in = 0;
    for file in super::files(&repository("src")) {
        let path = repository("src").join(&file);
        let text = read(&path);
        for macro_name in ["include_str!(\"", "include_bytes!(\"", "#[folder = \""] {
            for rest in text.split(macro_name).skip(1) {
                let named = rest.split('"').next().unwrap();
                let base = if macro_name.starts_with('#') {
                    root.clone()
                } else {
                    path.parent().unwrap().to_owned()
                };
                let target = base.join(named).canonicalize();
                let target = target.unwrap_or_else(|error| panic!("{file}: {named}: {error}"));
                let inside = target.strip_prefix(&root).unwrap().display().to_string();
                assert!(is_given(&inside), "{file} takes in {inside}");
                taken_in += 1;
            }
        }
        // Composed paths are checked by their fixed parts.
        for line in text
            .lines()
            .filter(|line| line.contains("CARGO_MANIFEST_DIR"))
        {
            assert!(is_given_somewhere(line, &given), "{file}: {line}");
        }
    }
    assert!(taken_in > 5, "{taken_in}");
}

fn is_given_somewhere(line: &str, given: &[String]) -> bool {
    line.trim_start().starts_with("//")
        || given.iter().any(|part| line.contains(&format!("/{part}/")))
}

#[test]
fn compose_is_valid_by_its_schema() {
    let text = read(repository("tests/schemas/compose-spec.json"));
    let schema: Value = serde_json::from_str(&text).unwrap();
    let mut compose = compose();
    // The schema is of 2021; it does not know the project name yet.
    assert_eq!(
        compose.as_object_mut().unwrap().remove("name"),
        Some("kindler".into())
    );
    assert_follows(&schema, &compose, "compose.yaml");
    compose["services"]["api"]["portz"] = true.into();
    assert!(!jsonschema::is_valid(&schema, &compose));
}

#[test]
fn compose_files_secrets_volumes_and_networks_exist() {
    let folder = repository("deploy/docker");
    let compose = compose();
    let has = |kind: &str, name: &str| {
        let named = compose[kind].as_object().unwrap().contains_key(name);
        assert!(named, "{kind} has no {name}");
    };
    let written = read(folder.join("secrets.sh"));
    for (name, secret) in compose["secrets"].as_object().unwrap() {
        assert_eq!(secret["file"], format!("./secrets/{name}"));
        assert!(written.contains(&format!("write {name} ")), "{name}");
    }
    for config in compose["configs"].as_object().unwrap().values() {
        assert!(
            folder.join(config["file"].as_str().unwrap()).is_file(),
            "{config}"
        );
    }
    for (name, service) in services() {
        for secret in texts(&service["secrets"]) {
            has("secrets", &secret);
        }
        for network in texts(&service["networks"]) {
            has("networks", &network);
        }
        for config in service["configs"].as_array().into_iter().flatten() {
            has("configs", config["source"].as_str().unwrap());
        }
        for volume in texts(&service["volumes"]) {
            let source = volume.split(':').next().unwrap();
            if source.starts_with('.') {
                assert!(folder.join(source).exists(), "{name}: {source}");
                assert!(volume.ends_with(":ro"), "{name}: {volume}");
            } else {
                has("volumes", source);
            }
        }
        for other in service["depends_on"]
            .as_object()
            .into_iter()
            .flat_map(|o| o.keys())
        {
            has("services", other);
        }
        // No port is published to the network.
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
        assert!(service["restart"].is_string() && service["privileged"].is_null());
        if let (Some(image), Value::Null) = (service["image"].as_str(), &service["build"]) {
            let (_, tag) = image.split_once(':').expect("a tag");
            assert!(
                tag.starts_with(|c: char| c.is_ascii_digit() || c == 'v'),
                "{image}"
            );
        }
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let Some(file) = value
                .as_str()
                .filter(|text| text.starts_with("/run/secrets/"))
            else {
                continue;
            };
            let secret = file.trim_start_matches("/run/secrets/");
            let given = texts(&service["secrets"]);
            assert!(
                given.iter().any(|name| name == secret),
                "{name}: {variable}"
            );
        }
    }
}

#[test]
fn compose_is_consistent_with_the_code_and_images() {
    let kindler_services = kindler_services();
    assert_eq!(kindler_services.len(), 3);
    let dockerfile = "deploy/docker/Dockerfile";
    for (name, stage, service) in &kindler_services {
        assert_eq!(service["build"]["dockerfile"], dockerfile);
        let context =
            repository("deploy/docker").join(service["build"]["context"].as_str().unwrap());
        assert!(context.join(dockerfile).is_file());
        assert!(
            !of_stage(stage, "FROM").is_empty(),
            "{name}: no stage {stage}"
        );
        assert_eq!(service["image"], format!("kindler:{stage}"));
        super::assert_is_a_command(&texts(&service["command"]));
        let environment = service["environment"].as_object().unwrap();
        assert_variables_exist(environment.keys());
        assert!(
            environment["KINDLER_DATABASE_URL_FILE"].is_string(),
            "{name}"
        );
        assert_eq!(service["read_only"], true);
        let state = &image_env(stage)["KINDLER_STATE_DIR"];
        for volume in texts(&service["volumes"]) {
            assert_eq!(volume.split(':').nth(1), Some(state.as_str()), "{name}");
        }
        for port in texts(&service["ports"]) {
            let inside = port.rsplit(':').next().unwrap();
            assert_eq!(of_stage(stage, "EXPOSE"), [inside], "{name}");
        }
    }
}

#[test]
fn prometheus_and_grafana_read_what_exists() {
    let services = services();
    let prometheus = document(&repository("deploy/docker/prometheus.yml"));
    let scrapes = prometheus["scrape_configs"].as_array().unwrap();
    let job = scrapes
        .iter()
        .find(|job| job["job_name"] == "kindler")
        .unwrap();
    let scraped = texts(&job["static_configs"][0]["targets"]);
    let running: BTreeMap<_, _> = kindler_services()
        .into_iter()
        .filter(|(name, _, _)| name != "migrate")
        .map(|(name, stage, _)| (name, of_stage(&stage, "EXPOSE").remove(0)))
        .collect();
    let expected: BTreeSet<_> = running
        .iter()
        .map(|(name, port)| format!("{name}:{port}"))
        .collect();
    assert_eq!(scraped.into_iter().collect::<BTreeSet<_>>(), expected);
    for targets in prometheus["alerting"]["alertmanagers"].as_array().unwrap() {
        for target in texts(&targets["static_configs"][0]["targets"]) {
            assert!(
                services.contains_key(target.split(':').next().unwrap()),
                "{target}"
            );
        }
    }
    // The mounted rules are the ones that the configuration reads.
    let mounted = |service: &str, below: &str| -> String {
        let volumes = texts(&services[service]["volumes"]);
        let volume = volumes.iter().find(|volume| volume.contains(below));
        volume
            .unwrap_or_else(|| panic!("{service} mounts no {below}"))
            .clone()
    };
    let rules = mounted("prometheus", ":/etc/prometheus/alerts:ro");
    let source = repository("deploy/docker").join(rules.split(':').next().unwrap());
    for pattern in texts(&prometheus["rule_files"]) {
        let ending = pattern.strip_prefix("/etc/prometheus/alerts/*").unwrap();
        let read = fs::read_dir(&source).unwrap().flatten();
        let found = read.filter(|file| file.file_name().to_string_lossy().ends_with(ending));
        assert!(
            found.count() > 0,
            "no file for {pattern} in {}",
            source.display()
        );
    }
    let alertmanager = mounted("alertmanager", ":/etc/alertmanager:ro");
    let source = repository("deploy/docker").join(alertmanager.split(':').next().unwrap());
    assert!(source.join("alertmanager.yml").is_file());

    let provider = document(&repository("dashboards/provisioning/dashboards.yaml"));
    let path = provider["providers"][0]["options"]["path"]
        .as_str()
        .unwrap();
    let dashboards = mounted("grafana", &format!(":{path}:ro"));
    let source = repository("deploy/docker").join(dashboards.split(':').next().unwrap());
    let json = fs::read_dir(&source).unwrap().flatten();
    let json = json.filter(|file| file.path().extension().is_some_and(|ext| ext == "json"));
    assert!(json.count() >= 3, "no dashboards in {}", source.display());
    let datasource = document(&repository("dashboards/provisioning/datasource.yaml"));
    let url = datasource["datasources"][0]["url"].as_str().unwrap();
    let port = texts(&services["prometheus"]["ports"])[0]
        .rsplit(':')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(url, format!("http://prometheus:{port}"));
    let interval = &datasource["datasources"][0]["jsonData"]["timeInterval"];
    assert_eq!(*interval, prometheus["global"]["scrape_interval"]);
}

#[test]
fn secrets_are_created_once_and_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("secrets.sh");
    fs::copy(repository("deploy/docker/secrets.sh"), &script).unwrap();
    let first = succeeds(std::process::Command::new("sh").arg(&script));
    let secrets = folder.path().join("secrets");
    let mode = fs::metadata(&secrets).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let password = read(secrets.join("postgres_password"));
    assert!(password.trim().len() >= 32 && !first.contains(password.trim()));
    let url = read(secrets.join("database_url"));
    assert!(url.contains(&format!(":{}@postgres/", password.trim())));
    kindler::core::database::Database::parse(url.trim()).unwrap();
    succeeds(std::process::Command::new("sh").arg(&script));
    assert_eq!(read(secrets.join("postgres_password")), password);
}
