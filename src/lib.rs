//! Kindler: declared clusters, reconciled.
pub mod command;
