//! One kind's watch: what kube's watcher makes of list, watch, bookmarks and 410, with what it leaves open: which way to
//! list, when to try again, whether anybody answers, and what a credential that is renewed means.
//!
//! ```text
//!  Accesses ──► follow ──Event──► a Listener
//! ```
//!
//! One object that cannot be read would end the list that it is in: a kind's type must take any JSON (`lenient-json`).
//!
//! Failure: whatever goes wrong is said once per try, and tried again after a pause that grows. What was said before
//! stands meanwhile: a list takes nothing away until it has ended.
#![forbid(unsafe_code)]

mod access;
mod follow;
mod trouble;

pub use access::{Access, Accesses, Answered};
pub use follow::{Event, Listener, Options, follow};
pub use trouble::{Cause, Trouble, chain};
