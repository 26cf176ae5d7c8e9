//! The command runner with real processes: how runs end, who ends them, what they print.

mod ending;
mod output;
mod owner;
pub mod rig;
