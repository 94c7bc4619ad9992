//! Drawbridge's pure core: policy in, programs out, plus the netlink session that applies and reads them back.
//!
//! Nothing here knows tokio or Kubernetes. Compilers are functions from values to values; what touches the kernel is
//! in [`netlink`] and blocks in the calling thread.
#![forbid(unsafe_code)]

pub mod boundary;
pub mod checker;
pub mod cut;
pub mod flower;
pub mod ids;
pub mod netlink;
pub mod openflow;
pub mod policy;
pub mod representor;
pub mod ruleset;
pub mod session;
pub mod tables;
pub mod tuple;
pub mod underlay;
