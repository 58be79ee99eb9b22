//! Load for benchmarks of the whole path: flow, signatures, sending, and the counting of answers and of the log.

pub mod count;
pub mod flow;
pub mod grpc;
pub mod job;
pub mod prepare;
pub mod send;
pub mod wire;
