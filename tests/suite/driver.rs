//! The conformance tests of every driver, and tests of each driver's own behaviour.

mod conformance;
mod rig;
mod sandbox;

mod sandbox_rig;
mod sandbox_settings;
mod script;
mod script_defaults;
mod script_rig;

conformance::conformance! {
    sandbox_conforms: sandbox_rig::SandboxRig,
    script_conforms: script_rig::ScriptRig,
}
