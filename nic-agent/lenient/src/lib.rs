//! Kubernetes' JSON, read so that no value of it fails.
//!
//! A list of objects is one JSON text: a single value that a strict type refuses (an EndpointSlice's port 70000, which
//! the API server takes) would hide every object of that list, and at each try again. So each type here takes any JSON:
//! what is not of its form is as good as absent, and whoever reads the object decides what that means. Only a text that
//! is no JSON fails.
//!
//! A struct of such fields, with `#[serde(default)]`, is itself read from any object; [`Part`] makes it one of any JSON.
//! Values that nobody asks for are skipped as they come, so an object costs what is kept of it, and neither its size nor
//! its depth can hurt. This crate does no I/O.
#![forbid(unsafe_code)]

mod list;
mod metadata;
mod scalar;

pub use list::{Dict, List, Part};
pub use metadata::metadata;
pub use scalar::{Flag, Scalar, Text, Whole};

#[cfg(test)]
mod tests;
