//! Prometheus, Alertmanager and a webhook receiver, each on its own port, with the
//! shipped rules and the shipped routing at shorter intervals.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::{Json, Router, routing::post};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{RULES, tool};
use crate::deploy::repository;
use crate::deploy::yaml::document;
use crate::kit::{eventually, run_folder};

/// The running monitoring programs; they end when dropped.
pub(super) struct MonitoringStack {
    prometheus: MonitoringProgram,
    alertmanager: MonitoringProgram,
    receiver: Receiver,
    _folder: TempDir,
}

impl MonitoringStack {
    /// Starts all three and scrapes these addresses each second; `None` if they are not
    /// installed.
    pub(super) async fn start(scraped: &[String]) -> Option<Self> {
        tool(&["prometheus"])?;
        let folder = TempDir::with_prefix_in("watch-", run_folder()).unwrap();
        let receiver = Receiver::start().await;
        let alertmanager = start_alertmanager(folder.path(), &fast_routing(&receiver.url)).await?;
        let rules = folder.path().join("kindler.rules.yml");
        fs::write(&rules, fast_rules().to_string()).unwrap();
        let alerts_to = format!("127.0.0.1:{}", alertmanager.port);
        let config = folder.path().join("prometheus.yml");
        let settings = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alerts_to]}]}]},
            "scrape_configs": [{"job_name": "kindler", "static_configs": [{"targets": scraped}]}],
        });
        fs::write(&config, settings.to_string()).unwrap();
        let prometheus = MonitoringProgram::start("/-/ready", folder.path(), |port| {
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
            receiver,
            _folder: folder,
        })
    }

    /// The notifications about an alert, in order: `firing` or `resolved`, with labels
    /// and annotations.
    pub(super) fn notifications(&self, alert: &str) -> Vec<Value> {
        let notifications = self.receiver.notifications.lock().unwrap();
        let mine = notifications
            .iter()
            .filter(|one| one["labels"]["alertname"] == alert);
        mine.cloned().collect()
    }

    /// An answer of Prometheus' API, which must be a success.
    pub(super) async fn query(&self, path: &str, form: &[(&str, &str)]) -> Value {
        let body: Vec<_> = form
            .iter()
            .map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        let method = if form.is_empty() { "GET" } else { "POST" };
        let answer = exchange(self.prometheus.port, method, path, &body.join("&")).await;
        let answer = answer.unwrap_or_else(|| panic!("Prometheus does not answer {path}"));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["status"], "success", "{path} {form:?}: {answer}");
        answer["data"].clone()
    }

    /// Waits until Alertmanager has the alert and suppresses it.
    pub(super) async fn wait_suppressed(&self, alert: &str) {
        let awaited = format!("the suppressed alert {alert}");
        eventually(Duration::from_secs(60), &awaited, || async {
            let port = self.alertmanager.port;
            let answer = exchange(port, "GET", "/api/v2/alerts", "").await?;
            let all: Vec<Value> = serde_json::from_str(&answer).unwrap();
            let one = all.iter().find(|one| one["labels"]["alertname"] == alert)?;
            (one["status"]["state"] == "suppressed").then_some(())
        })
        .await;
    }

    /// The series of an expression in a time range, second by second.
    pub(super) async fn series(&self, expr: &str, from: u64, to: u64) -> Vec<Value> {
        let (from, to) = (from.to_string(), to.to_string());
        let form = [
            ("query", expr),
            ("start", from.as_str()),
            ("end", to.as_str()),
            ("step", "1s"),
        ];
        let data = self.query("/api/v1/query_range", &form).await;
        data["result"].as_array().unwrap().clone()
    }

    /// The logs of both programs, for a failed test.
    pub(super) fn logs(&self) -> String {
        format!("{}\n{}", self.prometheus.log(), self.alertmanager.log())
    }
}

impl Drop for MonitoringStack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Prometheus and Alertmanager\n{}\n---", self.logs());
            eprintln!(
                "--- notifications of the receiver\n{:#?}",
                self.receiver.notifications.lock()
            );
        }
    }
}

/// An Alertmanager without peers; `None` if it is not installed.
pub(super) async fn start_alertmanager(folder: &Path, config: &Value) -> Option<MonitoringProgram> {
    const NAMES: [&str; 2] = ["prometheus-alertmanager", "alertmanager"];
    tool(&NAMES)?;
    let file = folder.join("alertmanager.yml");
    // JSON is valid YAML.
    fs::write(&file, config.to_string()).unwrap();
    let command = |port| {
        let mut command = tool(&NAMES).unwrap();
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", folder.join("am").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // No port for peers.
            .arg("--cluster.listen-address=");
        command
    };
    Some(MonitoringProgram::start("/-/ready", folder, command).await)
}

/// The shipped rules with a second for each minute, so that their order stays. The only
/// other change is the step of the range in which the reason is looked up.
fn fast_rules() -> Value {
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

/// The shipped routes and inhibitions, with this receiver and without delays.
fn fast_routing(receiver: &str) -> Value {
    fn shorten(route: &mut Value) {
        let route = route.as_object_mut().unwrap();
        for (key, wait) in [("group_wait", "1s"), ("group_interval", "1s")] {
            route.insert(key.into(), wait.into());
        }
        for child in route.get_mut("routes").into_iter() {
            child.as_array_mut().unwrap().iter_mut().for_each(shorten);
        }
    }
    let mut routing = document(&repository("dashboards/alerts/alertmanager.yml"));
    shorten(&mut routing["route"]);
    let hook = &mut routing["receivers"][0]["webhook_configs"][0]["url"];
    assert!(hook.is_string());
    *hook = receiver.into();
    routing
}

/// A program that serves HTTP; it ends when dropped.
pub(super) struct MonitoringProgram {
    child: Child,
    pub(super) port: u16,
    log: std::path::PathBuf,
}

impl MonitoringProgram {
    async fn start(ready: &str, folder: &Path, command: impl Fn(u16) -> Command) -> Self {
        // The port may be taken meanwhile: then the program ends, and another port is
        // tried.
        for _ in 0..5 {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = socket.local_addr().unwrap().port();
            drop(socket);
            let log = folder.join(format!("{port}.log"));
            let log_file = fs::File::create(&log).unwrap();
            let child = command(port)
                .stdin(Stdio::null())
                .stdout(log_file.try_clone().unwrap())
                .stderr(log_file)
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
        panic!("the program does not start on any port");
    }

    /// Waits until it is ready (true) or ends (false).
    async fn is_ready(&mut self, path: &str) -> bool {
        let (port, child) = (self.port, Mutex::new(&mut self.child));
        eventually(
            Duration::from_secs(30),
            "the program ready or ended",
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

impl Drop for MonitoringProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The receiver of notifications.
struct Receiver {
    url: String,
    notifications: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    async fn start() -> Self {
        let notifications = Arc::new(Mutex::new(Vec::new()));
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/alerts", socket.local_addr().unwrap());
        let app = Router::new()
            .route("/alerts", post(receive))
            .with_state(notifications.clone());
        tokio::spawn(async move { axum::serve(socket, app).await });
        Self { url, notifications }
    }
}

async fn receive(State(notifications): State<Arc<Mutex<Vec<Value>>>>, Json(message): Json<Value>) {
    let alerts = message["alerts"].as_array().unwrap();
    notifications.lock().unwrap().extend(alerts.iter().cloned());
}

/// The body of a successful answer; `None` for any other.
async fn exchange(port: u16, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    // HTTP/1.0 prevents chunked answers.
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
    // The body explains a rejected expression.
    matches!(code, "200" | "400" | "422").then(|| body.to_owned())
}
