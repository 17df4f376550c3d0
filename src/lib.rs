//! Stratagem: a query server that speaks the PostgreSQL wire protocol, in which marketing models are SQL functions.
//!
//! This crate knows sockets, sessions, SQL statements and policy. The SQL functions live in `stratagem_udfs`, the models behind them in
//! `stratagem_models`; arrows point one way.

pub mod assets;
pub mod bandit;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod models;
pub mod report;
pub mod sample;
pub mod server;
pub mod store;

mod buckets;
mod cancel;
mod casts;
mod client;
mod connection;
mod copy;
mod counts;
mod encode;
mod interval;
mod json;
mod like;
mod limits;
mod literals;
mod names;
mod overflow;
mod parts;
mod pattern;
mod planner;
mod protocol;
mod round;
mod session;
mod settings;
mod sqlstate;
mod statement;
mod sum;
mod system;
mod texts;
mod truth;
mod values;
mod wording;
