//! The conformance tests of every driver, and tests of each driver's own behaviour.

mod conformance;
mod native_rig;
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
    #[ignore = "needs a container engine: make test-engine"]
    native_k3d_conforms: native_rig::K3dRig,
    #[ignore = "needs a container engine: make test-engine"]
    native_kind_conforms: native_rig::KindRig,
}
