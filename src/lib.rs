//! Kindler: declared clusters, reconciled.

pub mod postgres;
