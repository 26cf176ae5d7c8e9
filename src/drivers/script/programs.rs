//! Checks the configured programs at start, without running them. It finds programs that cannot be
//! started; it does not prove that the others can.

use std::ffi::OsStr;
use std::path::Path;

use super::super::program::problem;
use super::ScriptSettings;
use super::calls::{CREATE, DELETE, EXISTS, PROBE, START, STOP};

/// One line for each setting whose program is missing or cannot be started.
pub(super) fn problems(settings: &ScriptSettings, path: &OsStr) -> Vec<String> {
    let required = [
        (CREATE, &settings.create, "create_env.sh"),
        (DELETE, &settings.delete, "delete_env.sh"),
    ];
    let unset = required
        .iter()
        .filter(|(_, program, _)| program.is_none())
        .map(|(setting, _, example)| {
            format!("{setting} is not set: give the path of the host's {example}")
        });
    let invalid = [
        (CREATE, &settings.create),
        (DELETE, &settings.delete),
        (PROBE, &settings.probe),
        (EXISTS, &settings.exists),
        (START, &settings.start),
        (STOP, &settings.stop),
    ]
    .into_iter()
    .filter_map(|(setting, program)| {
        let program = program.as_ref()?;
        let problem = problem(program, path)?;
        Some(format!("{setting}: {} {problem}", program.display()))
    });
    unset.chain(invalid).collect()
}

/// Default programs that are not found. This is not a problem, because a host may have only one
/// provider.
pub(super) fn missing_defaults(settings: &ScriptSettings, path: &OsStr) -> Vec<&'static str> {
    let lists = settings.exists.is_none();
    let start_or_stop = settings.start.is_none() || settings.stop.is_none();
    [
        ("kubectl", settings.probe.is_none()),
        ("k3d", lists || start_or_stop),
        ("kind", lists),
        ("docker", lists || start_or_stop),
    ]
    .into_iter()
    .filter(|(program, used)| *used && problem(Path::new(program), path).is_some())
    .map(|(program, _)| program)
    .collect()
}
