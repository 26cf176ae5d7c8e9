//! The images and the compose file: every path, port, variable, command and secret
//! exists, and hadolint's rules are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use kindler::config::settings;
use serde_json::Value;

use super::yaml::{document, texts};
use super::{read, repository, succeeds, tool};

/// The instructions of one kind in a stage of the Dockerfile.
fn of_stage(stage: &str, kind: &str) -> Vec<Value> {
    let text = read(repository("deploy/docker/Dockerfile"));
    let parsed = parse_dockerfile::parse(&text).unwrap();
    let stage = parsed
        .stage(stage)
        .unwrap_or_else(|| panic!("no stage {stage}"));
    let Value::Array(mut instructions) = serde_json::to_value(stage.instructions).unwrap() else {
        panic!("instructions are a list");
    };
    instructions.retain(|instruction| instruction["kind"] == kind);
    instructions
}

/// Every value in a part of an instruction.
fn values(part: &Value) -> Vec<String> {
    match part {
        Value::Array(parts) => parts.iter().flat_map(values).collect(),
        Value::Object(fields) => match &fields.get("value") {
            Some(Value::String(value)) => vec![value.clone()],
            _ => fields.values().flat_map(values).collect(),
        },
        _ => Vec::new(),
    }
}

/// The arguments of the only instruction of one kind in a stage.
fn arguments(stage: &str, kind: &str) -> Vec<String> {
    let instructions = of_stage(stage, kind);
    assert_eq!(instructions.len(), 1, "{stage}: {kind}");
    values(&instructions[0]["arguments"])
}

/// The variables that an image sets.
fn image_env(stage: &str) -> BTreeMap<String, String> {
    arguments(stage, "ENV")[0]
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The programs in the image of the daemon besides kindler.
pub(super) fn daemon_programs() -> Vec<String> {
    let command = arguments("daemon", "RUN").concat();
    let (_, rest) = command.split_once("--no-install-recommends ").unwrap();
    let words = rest.split_whitespace().take_while(|word| *word != "&&");
    let packages = words.filter(|word| *word != "\\");
    packages.map(str::to_owned).collect()
}

fn compose() -> Value {
    document(&repository("deploy/docker/compose.yaml"))
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

/// Among others: images have tags, stages exist, no shell forms, no left package lists.
#[test]
fn hadolint_accepts_the_dockerfile() {
    let Some(mut hadolint) = tool("hadolint") else {
        return;
    };
    succeeds(hadolint.arg(repository("deploy/docker/Dockerfile")));
}

#[test]
fn images_are_unprivileged_and_complete() {
    let text = read(repository("deploy/docker/Dockerfile"));
    let parsed = parse_dockerfile::parse(&text).unwrap();
    let versions: Vec<_> = parsed
        .global_args()
        .map(|arg| &*arg.arguments.value)
        .collect();
    for stage in parsed.stages() {
        let image = &stage.from.image.value;
        for variable in image.split("${").skip(1) {
            let (name, _) = variable.split_once('}').unwrap();
            let has_default = |arg: &&str| arg.starts_with(&format!("{name}="));
            assert!(versions.iter().any(has_default), "{image}");
        }
    }
    for source in of_stage("build", "COPY")
        .iter()
        .flat_map(|copy| values(&copy["src"]))
    {
        assert!(repository(&source).exists(), "{source}");
    }
    for stage in ["api", "daemon"] {
        assert_eq!(arguments(stage, "USER"), ["65532:65532"], "{stage}");
        let check = arguments(stage, "HEALTHCHECK");
        assert_eq!(check[0], "/usr/bin/kindler");
        super::assert_is_a_command(&check[1..]);
        super::assert_is_a_command(&arguments(stage, "CMD"));
        let env = image_env(stage);
        assert_variables_exist(env.keys());
        let port = env["KINDLER_LISTEN"].rsplit(':').next().unwrap().to_owned();
        assert_eq!(arguments(stage, "EXPOSE"), [port]);
        let state = env["KINDLER_STATE_DIR"].clone();
        assert_eq!(arguments(stage, "VOLUME"), [state]);
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
    let copies = of_stage("build", "COPY");
    let given: Vec<String> = copies
        .iter()
        .flat_map(|copy| values(&copy["src"]))
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
    let Some(mut check) = tool("check-jsonschema") else {
        return;
    };
    let file = repository("deploy/docker/compose.yaml");
    succeeds(
        check
            .args(["--builtin-schema", "vendor.compose-spec"])
            .arg(file),
    );
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
            assert_eq!(arguments(stage, "EXPOSE"), [inside], "{name}");
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
        .map(|(name, stage, _)| (name, arguments(&stage, "EXPOSE").remove(0)))
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
