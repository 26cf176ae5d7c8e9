//! Declaring over the API: from before the POST is sent until its answer says that the
//! row is committed, compared with the bare INSERT over a pool. Both write the same row
//! into the same table; the rounds alternate. A POST that leaves the ports to Kindler is
//! shown beside them.

use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, Pool};
use tokio::time::sleep;
use tokio_postgres::NoTls;

use crate::browse::Browser;
use crate::kit::{Daemon, Host, PrivateServer};
use crate::report::{Target, figure, ms, percentile};
use crate::rig::migrated;

const ROUNDS: usize = 300;
const WARM_UP: usize = 30;
/// The pause before each statement, in which earlier work ends.
const REST: Duration = Duration::from_millis(10);

const INSERT: &str =
    "INSERT INTO clusters (name, provider, node_port, pf_port, http_port, https_port)
    VALUES ($1, 'kind', 30080, 19000, 18080, 18443) ON CONFLICT (name) DO NOTHING RETURNING name";

/// The same ports in a POST. Without them it takes a lock and chooses free ones.
const PORTS: &str = r#", "pf_port": 19000, "http_port": 18080, "https_port": 18443"#;

/// Measures both, and shows the ratio of the medians.
pub async fn measure(server: &PrivateServer) {
    let (database, host) = (migrated(server).await, Host::new());
    let daemon = Daemon::with_defaults(&database.url(), &host)
        .set("KINDLER_API_ONLY", "true")
        .start()
        .await;
    let mut browser = Browser::open(daemon.port()).await;
    let config = database.url().parse().expect("the kit's URL is valid");
    let pool = Pool::builder(Manager::new(config, NoTls))
        .build()
        .expect("a pool");

    let (mut bare, mut kindler_times, mut choosing) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        sleep(REST).await;
        let began = Instant::now();
        let client = pool.get().await.expect("a connection");
        let insert = client.prepare_cached(INSERT).await.expect("prepare");
        let name = format!("bare-{round}");
        client.query_one(&insert, &[&name]).await.expect("insert");
        drop(client);
        let bare_took = began.elapsed();

        sleep(REST).await;
        let posted = post(&mut browser, &format!("post-{round}"), PORTS).await;
        sleep(REST).await;
        let chosen = post(&mut browser, &format!("free-{round}"), "").await;
        if round >= WARM_UP {
            bare.push(ms(bare_took));
            kindler_times.push(ms(posted));
            choosing.push(ms(chosen));
        }
    }
    for (kind, times) in [
        ("bare INSERT", &mut bare),
        ("POST", &mut kindler_times),
        ("POST, free ports chosen", &mut choosing),
    ] {
        for (name, share) in [("p50", 0.5), ("p95", 0.95)] {
            let time = percentile(times, share);
            figure(
                &format!("declare, {kind}, {name}"),
                time,
                "ms",
                Target::None,
            );
        }
    }
    let ratio = percentile(&mut kindler_times, 0.5) / percentile(&mut bare, 0.5);
    figure("declare, ratio at p50", ratio, "", Target::AtMost(1.3));
}

/// Declares a cluster; returns the time until the answer.
async fn post(browser: &mut Browser, name: &str, ports: &str) -> Duration {
    let body = format!(r#"{{"name": "{name}", "provider": "kind"{ports}}}"#);
    let began = Instant::now();
    browser.post("/api/clusters", body).await;
    began.elapsed()
}
