//! How a JSON text is broken, and what became of it.

/// How a JSON text is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::fault) enum How {
    /// A key that is not in the schema.
    ExtraKey,
    /// A value that is none of those listed.
    InvalidEnum,
    /// Fenced as Markdown.
    Fence,
    MissingKey,
    /// Prose in its place.
    NotJson,
    Null,
    /// A sentence before it.
    Preamble,
    RenamedKey,
    TrailingComma,
    /// It ends in the middle of the value of the key.
    Truncated,
    WrongType,
}

impl How {
    /// Whether one of the text's own keys is to be found.
    pub(in crate::fault) fn needs_key(self) -> bool {
        matches!(
            self,
            Self::InvalidEnum
                | Self::MissingKey
                | Self::Null
                | Self::RenamedKey
                | Self::Truncated
                | Self::WrongType
        )
    }

    /// Whether the text is JSON still.
    #[cfg(test)]
    pub(in crate::fault) fn keeps_json(self) -> bool {
        !matches!(
            self,
            Self::Fence | Self::NotJson | Self::Preamble | Self::TrailingComma | Self::Truncated
        )
    }
}

/// What became of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::fault) enum Told {
    Broken,
    /// It came as it is to be made.
    Already,
    /// Its form cannot be read.
    Lost,
    NoJson,
    #[default]
    Nothing,
}

impl Told {
    /// Why it was not broken.
    pub(in crate::fault) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Broken => None,
            Self::Already => Some("the text was so already"),
            Self::Lost => Some("the text is no valid JSON by itself, or lies too deep"),
            Self::NoJson => Some("the text is no JSON"),
            Self::Nothing => Some("the JSON has no such key"),
        }
    }
}
