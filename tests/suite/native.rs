//! Real clusters on a real container engine, with stand-ins for k3d, kind and their nodes.
//!
//! `make test-engine` starts a private engine and runs these tests; `KINDLER_TEST_ENGINE` names
//! it. The oracle is the engine itself, asked with the `docker` command.

mod containers;
mod host;
mod images;
mod ingress;
mod kubeconfig;
mod lifecycle;
mod own_engine;
mod ownership;
mod repair;
pub mod rig;
