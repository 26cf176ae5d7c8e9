//! Speed and size: each figure with its target.
//!
//! Run by `make bench`; words after `cargo bench --` choose sections by name (`wakeup`,
//! `declare`, `stream`, `idle`, `start`, `converge`). It measures the real daemon on a
//! private, durable Postgres. It fails only when something breaks: a slow figure is
//! marked `over`, because a busy machine is not a defect. It must not measure with
//! settings or code that the product does not ship.

mod bare;
mod browse;
mod converge;
mod declare;
mod idle;
#[path = "../../tests/suite/kit/mod.rs"]
mod kit;
mod no_op;
mod report;
mod rig;
mod start;
mod stream;
mod wakeup;

use std::env;

use kit::PrivateServer;

/// The number of the daemon's threads.
const THREADS: usize = 2;

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [role, url] = args.as_slice()
        && role == bare::ROLE
    {
        return bare::main(url);
    }
    // cargo adds --bench.
    let chosen: Vec<&str> = args
        .iter()
        .map(String::as_str)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .expect("start the threads")
        .block_on(measure(&chosen));
}

async fn measure(chosen: &[&str]) {
    let selected = |section: &str| chosen.is_empty() || chosen.contains(&section);
    let server = PrivateServer::create_durable().await;
    report::head(&rig::machine(&server).await);
    if selected("wakeup") {
        wakeup::measure(&server).await;
    }
    if selected("declare") {
        declare::measure(&server).await;
    }
    if selected("stream") {
        stream::measure(&server).await;
    }
    if selected("idle") {
        idle::measure(&server).await;
    }
    if selected("start") {
        start::measure(&server).await;
    }
    if selected("converge") {
        converge::measure(&server).await;
    }
}
