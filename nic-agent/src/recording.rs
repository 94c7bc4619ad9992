//! A file of all that the reconcile loop heard, in the order in which it did, and of all that it asked for: enough to see it
//! decide the same again, without a NIC.
//!
//! ```text
//!  platform ◄─► Recorded<P> ◄─► Reconciler        Player ◄─► Replayed ◄─► Reconciler
//!                   │ Recorder                      ▲ what was heard, and whether the same is asked
//!                   └──► lines ──► thread ──► FILE ──┘
//! ```
//!
//! The file is lines of JSON, each an object: the [`Header`], then of every word its [`Kind`] (`of`), what was asked (`ask`)
//! and what was heard (`hear`). A line that is the same as the last of its kind is written as `same`. No key and no
//! certificate is in it, as the loop has none; names and addresses of pods are.
//!
//! Failure: a file that takes no more ends the recording, and nothing else.

mod line;
mod player;
mod recorded;
mod recorder;
mod replayed;
pub mod words;

pub use line::{FORMAT, Header, Kind};
pub use player::{Difference, End, Player};
pub use recorded::{Recorded, With};
pub use recorder::{RecordError, Recorder};
pub use replayed::{Replayed, Tape};
