//! The protocol of claim, fence and state, explored completely.

mod database;
mod explored;
mod owner;
mod properties;
mod protocol;
mod row;
mod rules;
mod state;
mod world;
