//! Why a netlink operation did not do what it should.

use std::{fmt, io};

use super::wire::Malformed;

pub type Result<T> = std::result::Result<T, Error>;

/// The kernel's number for a reason, positive as in errno(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    pub const ENOENT: Self = Self(libc::ENOENT);
    pub const EEXIST: Self = Self(libc::EEXIST);
    pub const ENODEV: Self = Self(libc::ENODEV);
    pub const EINVAL: Self = Self(libc::EINVAL);
    pub const EOPNOTSUPP: Self = Self(libc::EOPNOTSUPP);
    pub const EAFNOSUPPORT: Self = Self(libc::EAFNOSUPPORT);
    pub const EADDRNOTAVAIL: Self = Self(libc::EADDRNOTAVAIL);
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // std's text: "File exists (os error 17)".
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

/// `operation` says in words what was tried, so that an error can be read without knowing the code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{operation}: netlink socket: {source}")]
    Socket { operation: String, source: io::Error },
    #[error("{operation}: {errno}{}", .extack.as_deref().map(|text| format!(": {text}")).unwrap_or_default())]
    Refused { operation: String, errno: Errno, extack: Option<String> },
    #[error("{operation}: no answer from the kernel in {seconds} s; whether it was done is unknown")]
    TimedOut { operation: String, seconds: u64 },
    #[error(
        "{operation}: answers of the kernel were lost (receive buffer full); whether it was done is unknown"
    )]
    Overrun { operation: String },
    #[error("{operation}: the kernel's answer cannot be read: {source}")]
    Malformed { operation: String, source: Malformed },
    #[error("{operation}: the kernel's tables changed during each of {tries} tries")]
    Interrupted { operation: String, tries: u32 },
    #[error("{operation}: this kernel has no generic netlink family {family:?}")]
    NoFamily { operation: String, family: String },
    #[error("{operation}: {found}")]
    Foreign { operation: String, found: String },
}

impl Error {
    /// The kernel's reason, if it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Whether the thing that was named is not there (any more).
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(Errno::ENODEV | Errno::ENOENT))
    }

    /// Whether the same call may well succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Overrun { .. } | Self::Interrupted { .. } => true,
            Self::Refused { errno, .. } => {
                [libc::EAGAIN, libc::EBUSY, libc::ENOMEM, libc::ENOBUFS].contains(&errno.0)
            }
            Self::Socket { .. } | Self::Malformed { .. } | Self::NoFamily { .. } | Self::Foreign { .. } => {
                false
            }
        }
    }
}
