//! What an ingress does once per batch: reads messages, judges their batches, gathers them by shard, and cuts what
//! became of them out of execution frames. No clock, input or output.
//!
//! `exchange.ingress.submissions.Submissions` does the same in Python where the core is not built; one suite tests both.
//! What is rare, such as a refusal's sentence, a repetition, or a batch that the shard refused, is left to Python.

mod desk;
mod frame;
mod gate;
mod message;
mod rates;

pub use desk::{Admitted, Desk, Forgotten, Handed, Odd, Stamps};
pub use frame::outcome_of;
pub use gate::{Gate, Key, Now, Refused};
pub use message::{Answer, Message, Shared, Stage, read_stream_request, read_submit_request};
pub use rates::Rates;
