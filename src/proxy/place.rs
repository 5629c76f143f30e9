//! Whose a listening socket is.

use std::sync::Arc;

/// Whose a listening socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Dependency(Arc<str>),
    Gateway(&'static str),
}

impl Place {
    /// What it is called among all sockets.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Dependency(name) => format!("dependency {name}"),
            Self::Gateway(name) => format!("gateway {name}"),
        }
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> Arc<str> {
        match self {
            Self::Dependency(name) => Arc::clone(name),
            Self::Gateway(name) => Arc::from(*name),
        }
    }
}
