//! The command line: the real binary against a real Postgres.

mod bad_input;
mod changing;
mod doctor;
mod following;
mod identity;
mod rig;
mod secrets;
mod settings;
mod shell;
mod showing;
mod status;
mod steps;
mod tokens;
mod waiting;
