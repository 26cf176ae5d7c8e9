//! Prometheus, Alertmanager and a webhook sink, each on a port of its own, with
//! the shipped rules and the shipped routing in a hurry.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{RULES, tool};
use crate::deploy::repository;
use crate::deploy::yaml::document;
use crate::kit::{eventually, run_folder};

/// What watches, while it is kept.
pub(super) struct Watch {
    prometheus: Program,
    alertmanager: Program,
    sink: Sink,
    _folder: TempDir,
}

impl Watch {
    /// Starts all three and scrapes these addresses each second; `None` where
    /// they are not installed.
    pub(super) async fn start(scraped: &[String]) -> Option<Self> {
        tool(&["prometheus"])?;
        tool(&["prometheus-alertmanager", "alertmanager"])?;
        let folder = TempDir::with_prefix_in("watch-", run_folder()).unwrap();
        let sink = Sink::start().await;
        let routing = folder.path().join("alertmanager.yml");
        // JSON is YAML.
        fs::write(&routing, hurried_routing(&sink.url).to_string()).unwrap();
        let alertmanager = Program::start("/-/ready", folder.path(), |port| {
            let mut command = tool(&["prometheus-alertmanager", "alertmanager"]).unwrap();
            command
                .arg(format!("--config.file={}", routing.display()))
                .arg(format!(
                    "--storage.path={}",
                    folder.path().join("am").display()
                ))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                // No peers, and no port for them.
                .arg("--cluster.listen-address=");
            command
        })
        .await;
        let rules = folder.path().join("kindler.rules.yml");
        fs::write(&rules, hurried_rules().to_string()).unwrap();
        let alerts_to = format!("127.0.0.1:{}", alertmanager.port);
        let config = folder.path().join("prometheus.yml");
        let settings = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alerts_to]}]}]},
            "scrape_configs": [{"job_name": "kindler", "static_configs": [{"targets": scraped}]}],
        });
        fs::write(&config, settings.to_string()).unwrap();
        let prometheus = Program::start("/-/ready", folder.path(), |port| {
            let mut command = tool(&["prometheus"]).unwrap();
            command
                .arg(format!("--config.file={}", config.display()))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    folder.path().join("tsdb").display()
                ))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"));
            command
        })
        .await;
        Some(Self {
            prometheus,
            alertmanager,
            sink,
            _folder: folder,
        })
    }

    /// What the sink has been told of an alert, in order: `firing` or `resolved`,
    /// with labels and annotations.
    pub(super) fn told(&self, alert: &str) -> Vec<Value> {
        let told = self.sink.told.lock().unwrap();
        let mine = told
            .iter()
            .filter(|one| one["labels"]["alertname"] == alert);
        mine.cloned().collect()
    }

    /// An answer of Prometheus' API, which must be a success.
    pub(super) async fn ask(&self, path: &str, form: &[(&str, &str)]) -> Value {
        let body: Vec<_> = form
            .iter()
            .map(|(key, value)| format!("{key}={}", escaped(value)))
            .collect();
        let method = if form.is_empty() { "GET" } else { "POST" };
        let answer = exchange(self.prometheus.port, method, path, &body.join("&")).await;
        let answer = answer.unwrap_or_else(|| panic!("Prometheus does not answer {path}"));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], "success", "{path} {form:?}: {answer}");
        answer["data"].clone()
    }

    /// Waits until Alertmanager has an alert and keeps it from being told.
    pub(super) async fn is_silenced(&self, alert: &str) {
        let awaited = format!("{alert} to be silenced by another");
        eventually(Duration::from_secs(60), &awaited, || async {
            let port = self.alertmanager.port;
            let answer = exchange(port, "GET", "/api/v2/alerts", "").await?;
            let all: Vec<Value> = serde_json::from_str(&answer).unwrap();
            let one = all.iter().find(|one| one["labels"]["alertname"] == alert)?;
            (one["status"]["state"] == "suppressed").then_some(())
        })
        .await;
    }

    /// The series of an expression between two moments, second by second.
    pub(super) async fn series(&self, expr: &str, from: u64, to: u64) -> Vec<Value> {
        let (from, to) = (from.to_string(), to.to_string());
        let form = [
            ("query", expr),
            ("start", from.as_str()),
            ("end", to.as_str()),
            ("step", "1s"),
        ];
        let data = self.ask("/api/v1/query_range", &form).await;
        data["result"].as_array().unwrap().clone()
    }

    /// What the two programs said, for a test that failed.
    pub(super) fn logs(&self) -> String {
        format!("{}\n{}", self.prometheus.log(), self.alertmanager.log())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Prometheus and Alertmanager\n{}\n---", self.logs());
            eprintln!("--- the sink was told\n{:#?}", self.sink.told.lock());
        }
    }
}

/// The shipped rules, with a second for each minute that they wait, so that
/// their order stays. Nothing else is changed but the step of the look back for
/// the reason.
fn hurried_rules() -> Value {
    let mut rules = document(&repository(RULES));
    for group in rules["groups"].as_array_mut().unwrap() {
        for rule in group["rules"].as_array_mut().unwrap() {
            for wait in ["for", "keep_firing_for"] {
                if let Some(minutes) = rule[wait].as_str() {
                    let minutes = minutes.strip_suffix('m').unwrap();
                    rule[wait] = format!("{minutes}s").into();
                }
            }
            for annotation in rule["annotations"].as_object_mut().unwrap().values_mut() {
                let text = annotation.as_str().unwrap();
                *annotation = text.replace("[30m:15s]", "[30m:1s]").into();
            }
        }
    }
    rules
}

/// The shipped routes and inhibitions, to this sink, at once.
fn hurried_routing(sink: &str) -> Value {
    fn hurry(route: &mut Value) {
        let route = route.as_object_mut().unwrap();
        for (key, wait) in [("group_wait", "1s"), ("group_interval", "1s")] {
            route.insert(key.into(), wait.into());
        }
        for child in route.get_mut("routes").into_iter() {
            child.as_array_mut().unwrap().iter_mut().for_each(hurry);
        }
    }
    let mut routing = document(&repository("dashboards/alerts/alertmanager.yml"));
    hurry(&mut routing["route"]);
    let hook = &mut routing["receivers"][0]["webhook_configs"][0]["url"];
    assert!(hook.is_string());
    *hook = sink.into();
    routing
}

/// A program that serves HTTP; ended when dropped.
struct Program {
    child: Child,
    port: u16,
    log: std::path::PathBuf,
}

impl Program {
    async fn start(ready: &str, folder: &Path, command: impl Fn(u16) -> Command) -> Self {
        // A port that was free a moment ago may be taken: then it ends, and
        // another one is tried.
        for _ in 0..5 {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = socket.local_addr().unwrap().port();
            drop(socket);
            let log = folder.join(format!("{port}.log"));
            let said = fs::File::create(&log).unwrap();
            let child = command(port)
                .stdin(Stdio::null())
                .stdout(said.try_clone().unwrap())
                .stderr(said)
                .spawn();
            let mut program = Self {
                child: child.unwrap(),
                port,
                log,
            };
            if program.is_ready(ready).await {
                return program;
            }
            eprintln!("{}", program.log());
        }
        panic!("it does not start on any port");
    }

    /// Waits until it is ready; no, if it ends before.
    async fn is_ready(&mut self, path: &str) -> bool {
        let (port, child) = (self.port, Mutex::new(&mut self.child));
        eventually(
            Duration::from_secs(30),
            "the program to be ready or to end",
            || async {
                if child.lock().unwrap().try_wait().unwrap().is_some() {
                    return Some(false);
                }
                exchange(port, "GET", path, "").await.map(|_| true)
            },
        )
        .await
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Who is woken.
struct Sink {
    url: String,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Sink {
    async fn start() -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/alerts", socket.local_addr().unwrap());
        let app = Router::new()
            .route("/alerts", post(hear))
            .with_state(told.clone());
        tokio::spawn(async move { axum::serve(socket, app).await });
        Self { url, told }
    }
}

async fn hear(State(told): State<Arc<Mutex<Vec<Value>>>>, Json(message): Json<Value>) {
    let alerts = message["alerts"].as_array().unwrap();
    told.lock().unwrap().extend(alerts.iter().cloned());
}

/// The body of a good answer; `None` for any other.
async fn exchange(port: u16, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    // HTTP/1.0, so that the answer comes in one piece.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?;
    // A refused expression is told in the body.
    matches!(code, "200" | "400" | "422").then(|| body.to_owned())
}

/// A value for a form.
fn escaped(value: &str) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
                text.push(char::from(byte));
            }
            other => {
                let _ = write!(text, "%{other:02X}");
            }
        }
    }
    text
}
