//! Kindler: declared clusters, reconciled.
