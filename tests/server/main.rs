//! The server as its clients meet it: the real binary, a real socket, real data.

mod clients;
mod copy;
mod demo;
mod embedding;
mod exchange;
mod generating;
mod limits;
mod models;
mod prepared;
mod readme;
mod running;
mod script;
mod slt;
mod stop;
mod storage;
