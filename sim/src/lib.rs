//! The whole of Galaxy Push, hub and gateways and users, with real gRPC, SSE and WebSocket on a simulated network.
//!
//! A seed decides everything: who is there, what is published, which faults strike when. A world runs it (`world`), each
//! reader writes down what it is sent, and the history checker judges. The same seed gives the same history.
//!
//! The users (`users`) and their history (`frames`) work over real sockets as well; the end-to-end test uses them so, and
//! the chaos test (`chaos`), which hurts real processes.

pub mod account;
pub mod app;
pub mod asker;
pub mod brokers;
pub mod chaos;
pub mod command;
pub mod crashes;
pub mod disk;
pub mod floods;
pub mod frames;
pub mod journal;
mod log_lines;
pub mod measure;
pub mod met;
pub mod net;
pub mod plain;
pub mod poster;
pub mod processes;
pub mod publisher;
pub mod real;
pub mod registrar;
pub mod rng;
pub mod scenario;
pub mod shared;
pub mod steady;
pub mod storm;
pub mod tally;
pub mod truth;
pub mod unknown;
pub mod users;
pub mod witness;
pub mod world;
