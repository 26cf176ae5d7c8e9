//! The native driver on the engine of `make test-engine`, with stand-ins for k3d and kind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kindler::clusters::{Cluster, Provider};
use kindler::command::LogDir;
use kindler::drivers::native::{NativeDriver, NativeSettings, NodeImages, NodePreload};
use kindler::drivers::{Deadlines, Driver};

use super::rig::{DriverRig, cluster, deadlines, free_port};
use crate::command::rig::{Token, runner};
use crate::native::rig::docker;

/// The rig of one provider.
struct NativeDriverRig {
    provider: Provider,
    dir: tempfile::TempDir,
    /// Makes names unique, because all rigs share the engine.
    prefix: String,
    token: Token,
}

impl NativeDriverRig {
    fn new(provider: Provider) -> Self {
        static RIGS: AtomicU32 = AtomicU32::new(0);
        let rig = RIGS.fetch_add(1, Ordering::Relaxed);
        Self {
            provider,
            dir: tempfile::tempdir().unwrap(),
            prefix: format!("c{rig}"),
            token: Token::new(),
        }
    }

    fn driver(&self, deadlines: Deadlines) -> Box<dyn Driver> {
        Box::new(NativeDriver::new(NativeSettings {
            dir: self.dir.path().join("native"),
            images: NodeImages::default(),
            cpus: 1.0,
            memory: 512 * 1024 * 1024,
            preload: NodePreload::default(),
            ingress: true,
            // The environment of the tests names the kubeconfig of a person.
            merge_kubeconfig: false,
            deadlines,
            logs: LogDir::new(self.dir.path().join("logs")),
            runner: runner(),
        }))
    }

    /// The stand-ins run the text in this file at the start of a create.
    fn hook(&self) -> PathBuf {
        let folder = std::env::var("K3D_STAND_IN_HOOKS").expect("make test-engine sets it");
        Path::new(&folder).join(format!("{}-dev", self.prefix))
    }

    fn cluster(&self, name: &str) -> Cluster {
        let mut row = cluster(name);
        row.spec.provider = self.provider;
        row.spec.https_port = free_port();
        row
    }

    /// The container that publishes the ports, and the one of the control plane.
    fn containers(&self, cluster: &Cluster) -> (String, String) {
        let name = &cluster.name;
        match self.provider {
            Provider::K3d => (
                format!("k3d-{name}-serverlb"),
                format!("k3d-{name}-server-0"),
            ),
            Provider::Kind => (
                format!("{name}-control-plane"),
                format!("{name}-control-plane"),
            ),
        }
    }
}

macro_rules! rig {
    ($rig:ident, $provider:expr, $longest:expr) => {
        pub struct $rig(NativeDriverRig);

        impl DriverRig for $rig {
            const LONGEST_NAME: usize = $longest;
            const CHANGES_PORTS: bool = false;

            fn new() -> Self {
                Self(NativeDriverRig::new($provider))
            }

            fn cluster(&self, name: &str) -> Cluster {
                self.0.cluster(&format!("{}-{name}", self.0.prefix))
            }

            fn cluster_named(&self, name: &str) -> Cluster {
                self.0.cluster(name)
            }

            fn driver(&self) -> Box<dyn Driver> {
                let _ = fs::remove_file(self.0.hook());
                self.0.driver(Deadlines {
                    // A paused API server answers nothing.
                    probe: Duration::from_secs(5),
                    ..deadlines()
                })
            }

            fn hanging_driver(&self, deadlines: Deadlines) -> Box<dyn Driver> {
                let sleep = &self.0.token.0;
                let hang = format!("trap '' TERM\nsetsid sleep {sleep} &\nsleep {sleep}\n");
                fs::write(self.0.hook(), hang).unwrap();
                self.0.driver(deadlines)
            }

            fn token(&self) -> &Token {
                &self.0.token
            }

            fn kill(&self, cluster: &Cluster) {
                docker(&["pause", &self.0.containers(cluster).1]);
            }

            fn applied_port(&self, cluster: &Cluster) -> Option<u16> {
                let published = docker(&["port", &self.0.containers(cluster).0, "80/tcp"]);
                published.lines().next()?.rsplit_once(':')?.1.parse().ok()
            }
        }
    };
}

rig!(K3dRig, Provider::K3d, 32);
rig!(KindRig, Provider::Kind, 50);
