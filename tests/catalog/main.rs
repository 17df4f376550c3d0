//! The data folder and the writable schema, in process.

mod broken;
mod fixture;
mod folder;
mod partitions;
mod store;
