

pub mod backoff;
pub mod cluster;
pub mod command;
pub mod driver;
pub mod duration;
pub mod event;
pub mod health;
pub mod lease;
pub mod observation;
pub mod plan;
pub mod queue;
pub mod store;
