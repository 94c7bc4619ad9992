//! Network namespaces: this host's own and the pods'.
//!
//! A thread enters a namespace, does one thing there and ends; the thread that asked never leaves its own. So no path
//! out of here can leave us in a pod's namespace.
//!
//! "The host's own" is the namespace that we were started in, not the kernel's first one (`init_net`): in a lab, servers
//! are namespaces themselves.
use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, PROC_SUPER_MAGIC, fstatfs},
};
use thiserror::Error;

/// A namespace that cannot be used.
#[derive(Debug, Error)]
pub enum NetnsError {
    #[error("there is no network namespace {path}: it is gone")]
    Gone { path: PathBuf },
    #[error("cannot open the network namespace {path}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot enter the network namespace {path}: {source}; host-shim must run as root")]
    Enter { path: PathBuf, source: io::Error },
    #[error("cannot make a network namespace: {0}; host-shim must run as root")]
    Make(#[source] io::Error),
}

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
}

impl Netns {
    /// The namespace of this thread.
    pub fn current() -> Result<Self, NetnsError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        let gone = || NetnsError::Gone { path: path.to_owned() };
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => gone(),
            _ => NetnsError::Open { path: path.to_owned(), source },
        })?;
        // A name under /run/netns whose mount is gone is an empty file. (Kernels before 3.19 kept namespaces in proc.)
        match fstatfs(&file).map(|stat| stat.filesystem_type()) {
            Ok(NSFS_MAGIC | PROC_SUPER_MAGIC) => Ok(Self { file, path: path.to_owned() }),
            Ok(_) => Err(gone()),
            Err(errno) => Err(NetnsError::Open { path: path.to_owned(), source: errno.into() }),
        }
    }

    /// A new namespace with nobody in it. It ends when it is dropped, and gives what is in it to the kernel's first one.
    pub fn private() -> Result<Self, NetnsError> {
        thread::scope(|scope| {
            let inside = thread::Builder::new().spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| NetnsError::Make(errno.into()))?;
                Self::current()
            });
            let died = |_| Err(NetnsError::Make(io::Error::other("the thread that made it died")));
            inside.map_err(NetnsError::Make)?.join().unwrap_or_else(died)
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub fn is(&self, other: &Self) -> bool {
        let id = |netns: &Self| netns.file.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
        id(self).is_some_and(|own| Some(own) == id(other))
    }

    /// Runs `work` on a thread that is in this namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let enter = |source: io::Error| NetnsError::Enter { path: self.path.clone(), source };
        thread::scope(|scope| {
            let inside = thread::Builder::new().spawn_scoped(scope, || {
                setns(self.fd(), CloneFlags::CLONE_NEWNET)?;
                Ok::<T, nix::Error>(work())
            });
            match inside.map_err(enter)?.join() {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(errno)) => Err(enter(errno.into())),
                Err(_) => Err(enter(io::Error::other("the thread inside died"))),
            }
        })
    }
}
