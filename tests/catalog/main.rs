//! The data folder and the writable schema, in process.

#![allow(clippy::unwrap_used)]

mod broken;
mod drafts;
mod fixture;
mod folder;
mod partitions;
mod store;
