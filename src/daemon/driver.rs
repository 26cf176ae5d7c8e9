//! Creates the driver from the settings.

use std::path::PathBuf;
use std::sync::Arc;

use crate::command::{LogDir, Runner};
use crate::config::{DaemonSettings, DriverKind};
use crate::drivers::Driver;
use crate::drivers::native::{NativeDriver, NativeSettings, NodeImages};
use crate::drivers::sandbox::{SandboxDriver, SandboxSettings};
use crate::drivers::script::{ScriptDriver, ScriptSettings};
use crate::redact::KnownSecrets;

/// The folder of real clusters, in the state folder.
const NATIVE: &str = "native";
/// The folder of the sandbox clusters, in the state folder.
const SANDBOX: &str = "sandbox";

pub(super) fn driver(settings: &DaemonSettings, owner_lock: Option<PathBuf>) -> Arc<dyn Driver> {
    let logs = LogDir::new(settings.connection.log_dir());
    match settings.serving.driver {
        DriverKind::Script => Arc::new(ScriptDriver::new(script(settings, owner_lock, logs))),
        DriverKind::Native => Arc::new(NativeDriver::new(native(settings, owner_lock, logs))),
        // `kindler dev` resolves auto before, and the other commands refuse it.
        DriverKind::Sandbox | DriverKind::Auto => {
            Arc::new(SandboxDriver::new(sandbox(settings, logs)))
        }
    }
}

fn script(settings: &DaemonSettings, owner_lock: Option<PathBuf>, logs: LogDir) -> ScriptSettings {
    let commands = settings.commands.clone();
    ScriptSettings {
        create: commands.create_command,
        delete: commands.delete_command,
        probe: commands.probe_command,
        exists: commands.exists_command,
        start: commands.start_command,
        stop: commands.stop_command,
        deadlines: settings.deadlines(),
        runner: Runner {
            owner_lock,
            ..runner(settings)
        },
        ..ScriptSettings::new(logs)
    }
}

pub(super) fn native(
    settings: &DaemonSettings,
    owner_lock: Option<PathBuf>,
    logs: LogDir,
) -> NativeSettings {
    let native = &settings.native;
    NativeSettings {
        dir: settings.connection.state_dir.join(NATIVE),
        images: NodeImages {
            k3d: native.k3d_image.clone(),
            kind: native.kind_image.clone(),
        },
        cpus: native.node_cpus,
        memory: native.node_memory,
        deadlines: settings.deadlines(),
        logs,
        runner: Runner {
            owner_lock,
            ..runner(settings)
        },
    }
}

/// The runner of commands; it hides the database passwords in their output.
fn runner(settings: &DaemonSettings) -> Runner {
    let databases = [settings.connection.database(), settings.api_database()];
    let passwords = databases.into_iter().filter_map(|database| {
        let database = database.ok()?;
        database.password().map(<[u8]>::to_vec)
    });
    Runner {
        pass_env: settings.commands.pass_env.clone(),
        untrusted_answer: settings.lease_policy().guard_answers_within(),
        secrets: KnownSecrets::new(passwords),
        ..Runner::default()
    }
}

fn sandbox(settings: &DaemonSettings, logs: LogDir) -> SandboxSettings {
    let sandbox = &settings.sandbox;
    SandboxSettings {
        create_delay: sandbox.sandbox_create_delay,
        delete_delay: sandbox.sandbox_delete_delay,
        failure_rate: sandbox.sandbox_failure_rate,
        always_fails: sandbox.sandbox_fail.clone(),
        always_hangs: sandbox.sandbox_hang.clone(),
        deadlines: settings.deadlines(),
        ..SandboxSettings::new(settings.connection.state_dir.join(SANDBOX), logs)
    }
}
