//! The server as its clients meet it: the real binary, a real socket, real data.

mod clients;
mod copy;
mod demo;
mod drivers;
mod embedding;
mod evaluate;
mod exchange;
mod fuzz;
mod generating;
mod limits;
mod models;
mod postgres;
mod prepared;
mod readme;
mod report;
mod running;
mod script;
mod sessions;
mod slt;
mod stop;
mod storage;
mod texts;
mod transactions;
