//! Every driver against one list of what a driver promises, and each against what is its own.

mod conformance;
mod rig;
mod sandbox;
mod sandbox_orders;
mod sandbox_rig;
mod script;
mod script_defaults;
mod script_rig;

conformance::conformance! {
    sandbox_conforms: sandbox_rig::SandboxRig,
    script_conforms: script_rig::ScriptRig,
}
