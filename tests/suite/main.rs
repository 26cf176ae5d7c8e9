//! The tests that need real processes.

mod command;
