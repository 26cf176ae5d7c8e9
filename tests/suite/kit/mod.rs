//! Shared by all modules of the suite: real servers, the daemon, hosts, SQL, and
//! waiting.
//!
//! Each module uses a part of it, so unused parts are not dead code.
#![allow(dead_code, unused_imports)]

mod certificates;
mod cluster;
mod daemon;
mod database;
mod eventually;
mod host;
mod http;
mod other_host;
mod pooler;
mod port;
mod postgres;
mod proxy;
mod run_folder;
mod sql;

pub use certificates::{Certificates, parameter};
pub use cluster::sample_cluster;
pub use daemon::{Daemon, DaemonBuilder, KINDLER, daemon_settings, kindler, kindler_output};
pub use database::{Database, migrated, removal};
pub use eventually::{eventually, patience};
pub use host::{Host, JournalEntry};
pub use http::get;
pub use other_host::OtherHost;
pub use pooler::Pooler;
pub use port::{ClaimedPort, claim_port};
pub use postgres::PrivateServer;
pub use proxy::{FaultKind, InjectedFault, Proxy, Traffic};
pub use run_folder::run_folder;
pub use sql::{Sql, TIMEOUT};
