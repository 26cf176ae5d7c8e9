//! The command runner against real processes: how runs end, who may end them, what they print.

mod ending;
mod output;
mod owner;
pub mod rig;
